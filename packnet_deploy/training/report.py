"""What is kept with a task once it is trained: the figures of its report, and what its user is warned of.

One warning is of a collapse. Pruning costs something, and small sets of images are noisy; neither is what is meant.
Meant is a network that was pruned beyond what retraining brings back, which otherwise shows only to whoever compares
two columns of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from packnet_deploy.training import rate
from packnet_deploy.training.options import TrainOptions

MARGIN = 0.10  # what pruning may cost before it is called a collapse, whatever the number of images
STANDARD_ERRORS = 2
REPORT_KEY = "warnings"  # in a task's report
_OPTIONS = ("method", "score", "epochs", "retrain_epochs", "lr", "batch_size", "optimizer", "seed")


def task_warnings(
    options: TrainOptions, notes: rate.Notes, images: Mapping[str, int], *, first: bool
) -> tuple[str, ...]:
    """What the user should know of the errors measured; without validation images, of those on the test images.

    Args:
        images: how many there are by split, "val" and "test"; empty for a task without.
        first: it is a new pack's first task.
    """
    warnings = [rate.doubts(options, images.get("val", 0)), rate.broken_limit(options, notes)]
    split, label = ("val", "validation") if images.get("val") else ("test", "test")
    if split in notes.get("trained", {}):
        before, after = (notes[moment][split][0] for moment in ("trained", "retrained"))
        done = f"pruning by {rate.rate_of(options, notes):.3g} and {options.retrain_epochs} epochs of retraining"
        warnings.append(collapse_warning(before, after, images[split], split=label, done=done, first=first))
    return tuple(warning for warning in warnings if warning is not None)


def task_report(
    options: TrainOptions, notes: rate.Notes, warnings: tuple[str, ...], *, owned: int, free: int
) -> dict[str, Any]:
    """JSON for people: how the task was trained, its errors by moment, how its rate was found.

    Args:
        owned: how many weights the task has.
        free: how many are left to later ones.
    """
    report = {key: getattr(options, key) for key in _OPTIONS} | {"prune_rate": rate.rate_of(options, notes)}
    if options.weights is not None:
        report["weights"] = options.weights
    if found := {moment: errors for moment, errors in notes.items() if errors and moment != rate.TRIED}:
        report["errors"] = found
    if warnings:
        report[REPORT_KEY] = list(warnings)
    return report | rate.search_report(options, notes, owned, free)


def collapse(before: float, after: float, images: int) -> bool:
    """Whether the error ``after`` lies further above the one ``before`` than so many images explain."""
    noise = math.sqrt((before * (1 - before) + after * (1 - after)) / images)
    return after - before > max(MARGIN, STANDARD_ERRORS * noise)


def collapse_warning(before: float, after: float, images: int, *, split: str, done: str, first: bool) -> str | None:
    """The line for the user if a task collapsed.

    Args:
        before, after: errors 0..1 before pruning, and after pruning and retraining.
        split: which images they are of; ``images`` of them.
        done: what was done to the task in between.
        first: it is a new pack's first task.
    """
    if not collapse(before, after, images):
        return None
    advice = "a lower --prune-rate, --max-drop to have it chosen, more --retrain-epochs, or more --prune-steps"
    if first:
        advice += "; or begin with the pretrained network (--start network)"
    return (
        f"it collapsed: {100 * before:.1f} % error on {images:,} {split} images became {100 * after:.1f} % by {done}; "
        f"try {advice}"
    )


def warnings_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings that a task's report keeps; a report is free JSON, and what is not a line of text is none."""
    kept = report.get(REPORT_KEY)
    lines = kept if isinstance(kept, Sequence) and not isinstance(kept, str) else ()
    return tuple(line for line in lines if isinstance(line, str) and line.isprintable())
