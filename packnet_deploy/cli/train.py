"""``packnet train``: recipes, single tasks, going on after an interruption, and the table at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from packnet_deploy.cli.flags import GroupedCommand, flags_of, given
from packnet_deploy.cli.packs import path_to_grow, path_to_resume
from packnet_deploy.training.options import CHOICES, TrainOptions, groups
from packnet_deploy.training.recipe import QUICKSTART_RECIPE, read_recipe


@click.command(cls=GroupedCommand)
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--resume", is_flag=True, help="Go on with a training that was interrupted, to the same weights.")
@click.option("--list-archs", is_flag=True, help="List the networks that --arch knows, and their weights.")
@flags_of(TrainOptions, groups(), CHOICES)
@click.pass_context
def command(context: click.Context, /, recipe: Path | None, resume: bool, list_archs: bool, **_: Any) -> None:
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
        _print_archs()
        return
    options = given(context, TrainOptions)
    if recipe is not None and {"task", "data"} & options.keys():
        raise click.UsageError("--task and --data train one task; leave them out with a recipe", context)
    if "data" in options and "task" not in options:
        raise click.UsageError("--data: which task are these images? Give --task NAME too", context)
    if "task" in options:
        train_all([TrainOptions(**options)], resume)
    elif resume and recipe is None:
        _resume(options)
    else:
        train_all(read_recipe(recipe or QUICKSTART_RECIPE, **options), resume)


def _resume(options: Mapping[str, Any]) -> None:
    """Go on with the tasks asked for last."""
    from packnet_deploy.training.train_folder import TrainFolder

    if more := sorted(options.keys() - {"pack", "device", "workers"}):
        raise click.UsageError(f"--resume takes all options from the interrupted training; leave out {', '.join(more)}")
    pack = path_to_resume(options.get("pack"))
    tasks = TrainFolder.beside(pack).read_tasks()
    if "pack" not in options and tasks[0].pack is not None:
        pack = pack.with_name(tasks[0].pack.name)  # which need not end in .pack
    train_all([replace(task, **{**options, "pack": pack}) for task in tasks], resume=True)


def train_all(tasks: Sequence[TrainOptions], resume: bool = False) -> tuple[Path, dict[str, float]]:
    """Train the tasks one after the other, showing progress and a table.

    Returns:
        The pack's path, and how far each older task's probe logits moved while newer ones were trained.
    """
    from packnet_deploy.cli.progress import progress
    from packnet_deploy.cli.show import console

    screen = console()
    screen.quiet = os.environ.get("RANK", "0") != "0"  # one of several processes talks
    path = path_to_grow(tasks[0].pack)
    names, what = ", ".join(task.task for task in tasks), "adding to" if path.exists() else "making"
    screen.print(f"{what} {path}: {names}; loading PyTorch, images and network takes some seconds", soft_wrap=True)
    from packnet_deploy.training.run import train_tasks
    from packnet_deploy.training.start import with_network_first

    tasks = with_network_first(tasks, path, resume)
    changes: dict[str, float] = {}
    packs: dict[Path, None] = {}
    with progress(screen) as watcher:
        for result in train_tasks(tasks, path, watcher, resume=resume):
            packs[result.pack.path] = None
            for image in result.skipped:
                screen.print(f"{result.task}: left out, cannot be read: {image}", soft_wrap=True)
            for task, change in result.change.items():
                changes[task] = max(change, changes.get(task, 0.0))
    if not screen.quiet:
        for trained in packs or {path: None}:
            _print_table(trained, changes)
    return path, changes


def _print_table(path: Path, changes: Mapping[str, float]) -> None:
    from packnet_deploy.cli.show import console, percent, size, table
    from packnet_deploy.pack import Pack
    from packnet_deploy.training.report import warnings_of

    pack = Pack.open(path)
    warnings: list[str] = []
    columns = ("error\ntrained", "error\npruned", "error\nretrained", "error\non test", "free", "delta", "change")
    shown = table(str(pack.path), ("task",), columns)
    free = pack.manifest.weights
    with pack.opened() as opened:
        layers, reports = opened.capacity(), [opened.header(entry.name).report for entry in opened.tasks]
    for entry, report in zip(pack.tasks, reports, strict=True):
        free -= sum(layer.owned[entry.index - 1] for layer in layers)
        errors, warned = report.get("errors", {}), warnings_of(report)
        warnings += [f"! {entry.name}: {line}" for line in warned]
        figures = [errors.get(moment, {}).get("val", [None])[0] for moment in ("trained", "pruned", "retrained")]
        figures += errors.get("retrained", {}).get("test", [None])[:1]
        change = f"{changes[entry.name]:g}" if entry.name in changes else "-"
        shown.add_row(
            f"{entry.name} !" if warned else entry.name,
            *map(percent, figures),
            percent(free / pack.manifest.weights),
            size(entry.bytes),
            change,
        )
    screen = console()
    screen.print(shown)
    screen.print(
        "error: the share of images given another class, on validation images after training, pruning and retraining; "
        "then on the test images. free: weights left for later tasks. change: how far an older task's probe logits "
        "moved while newer tasks were trained.",
    )
    for line in warnings:
        screen.print(line, soft_wrap=True)
    last = pack.tasks[-1].name
    screen.print(f"next: packnet predict {last} IMAGE; packnet export --task {last}; or train another task")


def _print_archs() -> None:
    from packnet_deploy.cli.show import console, table
    from packnet_deploy.training.backbones import arch_table

    shown = table("networks", ("name", "head", "weights"), ("packable weights", "input"))
    for arch in arch_table():
        shown.add_row(arch.name, arch.head, ", ".join(arch.weights), f"{arch.packable:,}", f"{arch.input_size} px")
    console().print(shown)
