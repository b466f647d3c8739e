"""What a training left in a pack: every task's errors and sizes, as JSON values and as the table at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

MOMENTS = ("trained", "pruned", "retrained")  # at which a task is measured


def trained_tasks(path: Path, changes: Mapping[str, float]) -> list[dict[str, Any]]:
    """A description of each task in the pack at ``path``, as JSON values (docs/json.md).

    Args:
        changes: how far each older task's probe logits moved while newer tasks were trained.
    """
    from packnet_deploy.pack import Pack
    from packnet_deploy.training.report import warnings_of

    pack = Pack.open(path)
    with pack.opened() as opened:
        layers, reports = opened.capacity(), [opened.header(entry.name).report for entry in opened.tasks]
    free, found = pack.manifest.weights, []
    for entry, report in zip(pack.tasks, reports, strict=True):
        free -= sum(layer.owned[entry.index - 1] for layer in layers)
        errors = report.get("errors", {})
        moments = {moment: errors.get(moment, {}).get("val", [None])[0] for moment in MOMENTS}
        found.append(
            {
                "pack": str(path),
                "task": entry.name,
                "index": entry.index,
                "errors": moments | {"test": errors.get("retrained", {}).get("test", [None])[0]},
                "free": free / pack.manifest.weights,
                "bytes": entry.bytes,
                "change": changes.get(entry.name),
                "warnings": list(warnings_of(report)),
            }
        )
    return found


def print_trained(screen: Console, tasks: Sequence[Mapping[str, Any]]) -> None:
    """The tasks of one pack as a table, what its columns are, and what their users are warned of."""
    from packnet_deploy.cli.show import percent, size, table

    columns = ("error\ntrained", "error\npruned", "error\nretrained", "error\non test", "free", "delta", "change")
    shown = table(str(tasks[0]["pack"]), ("task",), columns)
    for task in tasks:
        shown.add_row(
            f"{task['task']} !" if task["warnings"] else task["task"],
            *map(percent, task["errors"].values()),
            percent(task["free"]),
            size(task["bytes"]),
            "-" if task["change"] is None else f"{task['change']:g}",
        )
    screen.print(shown)
    screen.print(
        "error: the share of images given another class; of validation images before the first weights were given "
        "back, when the last were, and at the end; then of test images. free: weights left for later tasks. change: "
        "how far an older task's probe logits moved while newer tasks were trained.",
    )
    for task in tasks:
        for line in task["warnings"]:
            screen.print(f"! {task['task']}: {line}", soft_wrap=True)
