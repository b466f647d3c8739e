"""Timing calls: warm-up, repeated runs within a budget, percentiles, and whether the figures can be trusted.

What is called, and in which process, is the business of ``worker`` and ``run``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

FEWEST_RUNS = 5  # timed even when they take longer than the time allowed
ENOUGH_RUNS = 10  # fewer say too little about the spread
MOST_DRIFT = 0.10  # between the medians of the first and the second half
MOST_SPREAD = 1.5  # p90 / p50
MOST_PULL = 1.25  # mean / p50


@dataclass(frozen=True)
class Timing:
    """What a series of runs comes to. ``unstable`` says why not to trust it; it is empty when all is well.

    Percentiles are by nearest rank (``percentile``): each is a time that was really measured. So the p99 of fewer
    than 100 runs is the slowest run. ``images_per_s`` is all images over the sum of all times.
    """

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    unstable: str


def time_in_turn(
    calls: Mapping[str, Callable[[], object]],
    *,
    warmup: int,
    repeats: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time the calls round-robin: one run of each, then the next of each.

    Every call gets the same number of runs: ``repeats``, or as many rounds as start within
    ``seconds * len(calls)``, though never fewer than ``FEWEST_RUNS`` (or ``repeats``, if that is less).

    Args:
        calls: what to run, by name.
        warmup: untimed rounds before; fewer, but not none, where they take longer than the timed ones may.
        clock: seconds, from any origin.

    Returns:
        Each call's times in seconds, in the order they were measured.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    warm = clock() + seconds * len(calls)
    for done in range(warmup):
        if done and clock() >= warm:
            break
        for call in calls.values():
            call()
    deadline = clock() + seconds * len(calls)
    for done in range(repeats):
        if done >= FEWEST_RUNS and clock() >= deadline:
            break
        for name, call in calls.items():
            start = clock()
            call()
            samples[name].append(clock() - start)
    return samples


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` per cent of the samples do not exceed (nearest rank)."""
    rank = math.ceil(percent / 100 * len(samples))
    return sorted(samples)[max(rank, 1) - 1]


def summarise(samples: Sequence[float], batch: int) -> Timing:
    """Times of one call in seconds, ``batch`` images each, to what is reported."""
    p50, p90, p99 = (1e3 * percentile(samples, p) for p in (50, 90, 99))
    images_per_s = batch * len(samples) / sum(samples)
    return Timing(len(samples), p50, p90, p99, images_per_s, why_unstable(samples))


def why_unstable(samples: Sequence[float]) -> str:
    """Why a series of times is not to be trusted: a keyword, a colon, the reason. Empty when all is well."""
    if len(samples) < ENOUGH_RUNS:
        return f"few runs: {len(samples)}, expected {ENOUGH_RUNS} or more; allow more time"
    half = len(samples) // 2
    first, second = median(samples[:half]), median(samples[half:])
    if max(first, second) > (1 + MOST_DRIFT) * min(first, second):
        longer_or_shorter = "longer" if second > first else "shorter"
        return f"drift: runs of the second half took {abs(second / first - 1):.0%} {longer_or_shorter}"
    p50, p90 = percentile(samples, 50), percentile(samples, 90)
    if p90 > MOST_SPREAD * p50:
        return f"spread: p90 is {p90 / p50:.1f} times p50; something else may be using this machine"
    mean = sum(samples) / len(samples)
    if mean > MOST_PULL * p50:
        return f"stalls: a few slow runs pull the mean to {mean / p50:.1f} times p50, and images/s down with it"
    return ""
