"""How much of a task can be pruned: which rate is tried next, as a pure function of the rates tried before.

Upwards along a coarse ladder until a rate costs too much; then the halves of the gap below it, down to a ``STEP``. A
short retraining shows that a rate will do, but not that it will not: what fails after one is tried again after a whole
one, from where it is. Nor do a few images show it: what fails by no more than their noise is climbed past, for the
sake of a higher rate that will do. What trains and measures in between is task.py, how long stages.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

STEP = 0.05  # how near the rate found comes to the highest that would have done
LADDER = (0.5, 0.6, 0.7, 0.8, 0.9)
RESOLVED = 2  # images' worth that a drop must be, or one image decides
_TINY = 1e-6  # less than one image in any set


class Tried(NamedTuple):
    """One rate, and the validation error 0..1 after pruning by it and retraining, shortly or for all epochs."""

    rate: float
    error: float
    whole: bool


class Step(NamedTuple):
    """What to try next; a ``whole`` step goes on where the short one of the same rate ended."""

    rate: float
    whole: bool


@dataclass(frozen=True)
class Search:
    """Looks for the highest rate whose error is within ``limit``.

    Attributes:
        limit: the highest validation error 0..1 that will do.
        least: the lowest rate; taken, whatever its error, if no other will do.
        most: the highest rate that is tried.
        noise: how far above the limit an error may lie by chance.
    """

    limit: float
    least: float
    most: float
    noise: float = 0.0

    def within(self, error: float) -> bool:
        return error <= self.limit + _TINY

    def next_step(self, tried: Sequence[Tried]) -> Step | None:
        """What to try after these; None when nothing is left to try."""
        good = [one.rate for one in tried if self.within(one.error)]
        bad = [one.rate for one in tried if one.whole and not self.within(one.error)]
        above = None if bad else self._rung_above(tried)
        if tried and not tried[-1].whole:
            spared = 0.0 if above is None else self.noise
            if not self.within(tried[-1].error - spared):
                return Step(tried[-1].rate, whole=True)
        if not bad:
            return None if above is None else Step(above, whole=False)
        low, high = max(good, default=self.least), min(bad if good else [one.rate for one in tried])
        if high - low > STEP + _TINY:
            return Step(_between(low, high), whole=False)
        return Step(self.least, whole=False) if not good and self.least not in bad else None

    def _rung_above(self, tried: Sequence[Tried]) -> float | None:
        """The ladder's next rate above those that were tried; None at its end."""
        first = min(max(LADDER[0], self.least), self.most)
        rungs = sorted({first, *LADDER, self.most})
        top = max((one.rate for one in tried), default=-1)
        return next((rate for rate in rungs if self.least <= rate <= self.most and rate > top), None)

    def stays(self, one: Tried) -> bool:
        """Whether what was tried is taken until something better comes."""
        return self.within(one.error) or (one.whole and one.rate == self.least)

    def found(self, tried: Sequence[Tried]) -> Tried:
        """The one to take, of a search that is over."""
        return max(one for one in tried if self.stays(one))


def _between(low: float, high: float) -> float:
    """The middle of a gap wider than a ``STEP``, on the grid of steps where the grid has a rate inside."""
    middle = (low + high) / 2
    on_grid = round(round(middle / STEP) * STEP, 2)
    return on_grid if low + _TINY < on_grid < high - _TINY else middle


def resolution_warning(max_drop: float, images: int) -> str | None:
    """What to say where so few validation images cannot tell whether an error rose by ``max_drop``."""
    if max_drop * images >= RESOLVED - _TINY:
        return None
    return (
        f"--max-drop {max_drop:g} cannot be seen on {images:,} validation images, where one is {1 / images:.3g}; "
        f"it takes {math.ceil(RESOLVED / max_drop - _TINY):,} (--val-fraction), or a larger drop"
    )


def tasks_like_it(owned: int, free: int) -> int:
    """How many more tasks of ``owned`` weights fit into those that are ``free``; a percent of one more or less is
    how layers round."""
    return int(free / owned + 0.01) if owned else 0
