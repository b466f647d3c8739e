"""``packnet train``: recipes, single tasks, and going on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from packnet_deploy.cli.flags import GroupedCommand, flags_of, given
from packnet_deploy.cli.packs import path_to_grow, path_to_resume
from packnet_deploy.training.networks import known_networks
from packnet_deploy.training.options import CHOICES, TrainOptions, groups
from packnet_deploy.training.recipe import QUICKSTART_RECIPE, read_recipe

if TYPE_CHECKING:
    from rich.console import Console


COMPLETED = CHOICES | {"arch": tuple(known_networks()), "weights": ("imagenet", "none"), "reference": ("none",)}
PATHS = ("data", "weights", "reference")


@click.command(cls=GroupedCommand)
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--resume", is_flag=True, help="Go on with a training that was interrupted, to the same weights.")
@click.option("--list-archs", is_flag=True, help="List the networks that --arch knows, and their weights.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end; progress goes to standard error.")
@flags_of(TrainOptions, groups(), COMPLETED, PATHS)
@click.pass_context
def command(
    context: click.Context, /, recipe: Path | None, resume: bool, list_archs: bool, as_json: bool, **_: Any
) -> None:
    """Train tasks into a pack: a recipe, one task, or the built-in quickstart.

    \b
    packnet train                              the quickstart: three tasks into quickstart.pack
    packnet train RECIPE.toml                  the tasks of a recipe; those in the pack already are skipped
    packnet train --task NAME --data DIR       one task: the first makes the pack, later ones are added to it
    packnet train --resume                     whatever was interrupted here

    Flags win over the recipe. A new pack begins with the pretrained network itself as task 'pretrained', the smallest
    three tenths of its weights freed: a base for the tasks you add. Who needs that network's own task too adds
    --reference DIR (any images, labels unused) or trains it on its own (--start task --epochs 0 --data imagenet:DIR).
    --protocol paper is the paper's. Beside birds.pack, birds.train/ keeps logs, results and the checkpoint,
    birds.pretrained.safetensors what added tasks start from. Several GPUs or processes:
    torchrun --nproc-per-node N -m packnet_deploy train ...
    """
    if list_archs:
        _list_archs(as_json)
        return
    options = given(context, TrainOptions)
    if recipe is not None and {"task", "data"} & options.keys():
        raise click.UsageError("--task and --data train one task; leave them out with a recipe", context)
    if "data" in options and "task" not in options:
        raise click.UsageError("--data: which task are these images? Give --task NAME too", context)
    if "task" in options:
        _train([TrainOptions(**options)], resume, as_json)
    elif resume and recipe is None:
        _train(_interrupted(options), resume, as_json)
    else:
        _train(read_recipe(recipe or QUICKSTART_RECIPE, **options), resume, as_json)


def _interrupted(options: Mapping[str, Any]) -> list[TrainOptions]:
    """The tasks asked for last, to go on with."""
    from packnet_deploy.training.train_folder import TrainFolder

    if more := sorted(options.keys() - {"pack", "device", "workers"}):
        raise click.UsageError(f"--resume takes all options from the interrupted training; leave out {', '.join(more)}")
    pack = path_to_resume(options.get("pack"))
    folder = TrainFolder.beside(pack)
    tasks = folder.read_tasks()
    if "pack" not in options and tasks[0].pack is not None:
        pack = pack.with_name(tasks[0].pack.name)  # which need not end in .pack
    _expect_something_left(pack, folder.checkpoint, [task.task for task in tasks])
    return [replace(task, **{**options, "pack": pack}) for task in tasks]


def _expect_something_left(pack: Path, checkpoint: Path, names: Sequence[str]) -> None:
    """A training that was killed before it noted what was asked for must not look like one that is done."""
    from packnet_deploy.errors import UsageError
    from packnet_deploy.pack import Pack

    if pack.exists() and not checkpoint.exists() and {entry.name for entry in Pack.open(pack).tasks} >= set(names):
        raise UsageError(
            f"--resume: {pack} holds {', '.join(names)}, all that is noted beside it, so there is nothing to go on "
            "with; what was asked for since was not begun: ask for it again"
        )


class Trained(NamedTuple):
    """What became of a training.

    Attributes:
        tasks: every task of the packs that were made or grew, as ``trained_tasks`` has them.
        left_out: images that cannot be read, by task.
    """

    tasks: list[dict[str, Any]]
    left_out: dict[str, list[str]]

    @property
    def packs(self) -> list[Path]:
        return [Path(name) for name in dict.fromkeys(task["pack"] for task in self.tasks)]


def train_all(tasks: Sequence[TrainOptions], screen: Console, resume: bool = False) -> Trained:
    """Train the tasks one after the other, showing progress, and print a table for each pack."""
    from packnet_deploy.cli.progress import progress

    screen.quiet = _is_silent()
    path = path_to_grow(tasks[0].pack)
    names, what = ", ".join(task.task for task in tasks), "adding to" if path.exists() else "making"
    chosen = " (the only pack here)" if tasks[0].pack is None and path.exists() else ""
    screen.print(
        f"{what} {path}{chosen}: {names}; loading PyTorch, images and network takes some seconds", soft_wrap=True
    )
    from packnet_deploy.cli.trained import print_trained, trained_tasks
    from packnet_deploy.training.run import train_tasks
    from packnet_deploy.training.start import with_network_first

    tasks = with_network_first(tasks, path, resume)
    changes: dict[str, float] = {}
    packs: dict[Path, None] = {}
    left_out: dict[str, list[str]] = {}
    with progress(screen) as watcher:
        for result in train_tasks(tasks, path, watcher, resume=resume):
            packs[result.pack.path] = None
            for image in result.skipped:
                left_out.setdefault(result.task, []).append(image)
                screen.print(f"{result.task}: left out, cannot be read: {image}", soft_wrap=True)
            for task, change in result.change.items():
                changes[task] = max(change, changes.get(task, 0.0))
    found = []
    for trained in packs or {path: None}:
        found += (of_pack := trained_tasks(trained, changes))
        print_trained(screen, of_pack)
    return Trained(found, left_out)


def _train(tasks: Sequence[TrainOptions], resume: bool, as_json: bool) -> None:
    from packnet_deploy.cli.coming import command_line, print_next
    from packnet_deploy.cli.show import console, say_json

    screen = console(err=as_json)
    trained = train_all(tasks, screen, resume)
    if as_json:
        if not _is_silent():
            say_json({"tasks": trained.tasks, "left_out": trained.left_out})
        return
    last, pack = trained.tasks[-1]["task"], trained.packs[-1]
    print_next(
        screen,
        command_line("predict", last, "IMAGE", pack=pack),
        command_line("export", "--task", last, pack=pack),
        "or train another task",
    )


def _is_silent() -> bool:
    """One of several processes talks."""
    return os.environ.get("RANK", "0") != "0"


def _list_archs(as_json: bool) -> None:
    from packnet_deploy.cli.coming import print_next
    from packnet_deploy.cli.show import console, say_json, table

    networks = known_networks().values()
    if as_json:
        say_json({"networks": [network._asdict() for network in networks]})
        return
    screen, shown = console(), table("networks", ("name", "head", "weights"), ("packable weights", "input"))
    for arch in networks:
        shown.add_row(arch.name, arch.head, ", ".join(arch.weights), f"{arch.packable:,}", f"{arch.input_size} px")
    screen.print(shown)
    print_next(screen, "packnet train --task NAME --data DIR --arch NETWORK")
