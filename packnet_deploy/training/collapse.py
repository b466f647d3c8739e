"""Whether a task broke when it was pruned: a pure function of its errors, and the line that says so.

Pruning costs something, and small sets of images are noisy; neither is what is meant. Meant is a network that was
pruned beyond what retraining brings back, which otherwise shows only to whoever compares two columns of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MARGIN = 0.10  # what pruning may cost before it is called a collapse, whatever the number of images
STANDARD_ERRORS = 2
REPORT_KEY = "warnings"  # in a task's report


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
