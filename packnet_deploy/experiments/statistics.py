"""Mean and spread of a few trials. The spread is the sample standard deviation; one trial has none."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """``n`` values: their mean, and their sample standard deviation (None for one value)."""

    n: int
    mean: float
    spread: float | None


def summary(values: Iterable[float]) -> Summary | None:
    """The summary of the values; None where there are none."""
    found = list(values)
    if not found:
        return None
    return Summary(len(found), statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None)
