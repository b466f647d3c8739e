"""``packnet train``: recipes, single tasks, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.cli.flags import flags_of, given
from packnet_deploy.cli.packs import path_to_grow
from packnet_deploy.training.options import QUICKSTART_RECIPE, TrainOptions, read_recipe

if TYPE_CHECKING:
    from packnet_deploy.pack import Pack
    from packnet_deploy.training.run import TaskResult


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@flags_of(TrainOptions)
@click.pass_context
def command(context: click.Context, /, recipe: Path | None, **_: Any) -> None:
    """Train tasks into a pack: a recipe, one task, or the built-in quickstart.

    \b
    packnet train                              the quickstart: three tasks into quickstart.pack
    packnet train RECIPE.toml                  the tasks of a recipe; those in the pack already are skipped
    packnet train --task NAME --data DIR       one task: the first makes the pack, later ones are added to it

    Flags win over the recipe. Without images, --epochs 0 --retrain-epochs 0 takes a trained network as the first task.
    """
    options = given(context, TrainOptions)
    if recipe is not None and {"task", "data"} & options.keys():
        raise click.UsageError("--task and --data train one task; leave them out with a recipe", context)
    if "data" in options and "task" not in options:
        raise click.UsageError("--data: which task are these images? Give --task NAME too", context)
    if "task" in options:
        train_all([TrainOptions(**options)])
    else:
        train_all(read_recipe(recipe or QUICKSTART_RECIPE, **options))


def train_all(tasks: Sequence[TrainOptions]) -> tuple[Path, dict[str, float]]:
    """Train the tasks one after the other, showing progress and a table.

    Returns:
        The pack's path, and how far each older task's probe logits moved while newer ones were trained.
    """
    from packnet_deploy.cli.progress import progress
    from packnet_deploy.cli.show import console
    from packnet_deploy.pack import Pack
    from packnet_deploy.training.run import train_task

    screen = console()
    results: dict[str, TaskResult] = {}
    path = path_to_grow(tasks[0].pack)
    several = len(tasks) > 1
    for options in tasks:
        path = options.pack or path
        if several and path.exists() and any(entry.name == options.task for entry in Pack.open(path).tasks):
            screen.print(f"{options.task}: in {path} already, skipped")
            continue
        screen.print(f"{options.task}: training into {path}")
        with progress(screen) as watcher:
            results[options.task] = train_task(replace(options, pack=path), path, watcher)
    changes: dict[str, float] = {}
    for result in results.values():
        changes |= {task: max(change, changes.get(task, 0.0)) for task, change in result.change.items()}
    _print_table(Pack.open(path), changes)
    return path, changes


def _print_table(pack: Pack, changes: Mapping[str, float]) -> None:
    from packnet_deploy.cli.show import console, percent, size, table

    shown = table(
        str(pack.path),
        ("task",),
        ("trained", "pruned", "retrained", "test", "free", "delta", "change"),
    )
    free = pack.manifest.weights
    for entry, owned in zip(pack.tasks, _owned(pack), strict=True):
        free -= owned
        report = pack.header(entry.name).report
        figures = [
            percent(report.get(f"accuracy_{key}"))
            for key in ("before_pruning", "after_pruning", "after_retraining", "test")
        ]
        change = f"{changes[entry.name]:g}" if entry.name in changes else "-"
        shown.add_row(entry.name, *figures, percent(free / pack.manifest.weights), size(entry.bytes), change)
    screen = console()
    screen.print(shown)
    screen.print(
        "Accuracy on the validation images after training, after pruning, after retraining; then on the test images. "
        "free: weights left for later tasks. change: how far an older task's probe logits moved while newer tasks "
        "were trained.",
        soft_wrap=True,
    )


def _owned(pack: Pack) -> list[int]:
    layers = pack.capacity()
    return [sum(layer.owned[i] for layer in layers) for i in range(len(pack.tasks))]
