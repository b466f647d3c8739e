"""The arithmetic of timing, on series made up for the purpose and a clock that obeys."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from packnet_deploy.bench.timing import FEWEST_RUNS, percentile, summarise, time_in_turn, why_unstable


class Clock:
    """Time that passes only when a call takes it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.called: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, *seconds: float) -> Callable[[], None]:
        """A call that takes the next of ``seconds`` each time, the last one for ever."""
        times = list(seconds)

        def run() -> None:
            self.called.append(name)
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return run


def test_percentiles_are_nearest_ranks() -> None:
    hundred = random.Random(0).sample(range(1, 101), 100)
    assert [percentile(hundred, p) for p in (1, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert [percentile([30, 10, 20], p) for p in (0, 33, 34, 50, 67, 99)] == [10, 10, 20, 20, 30, 30]
    assert percentile([7], 50) == 7


def test_p99_of_few_samples_is_the_slowest() -> None:
    assert percentile(range(99), 99) == 98
    assert percentile(range(200), 99) == 197


def test_a_summary_is_in_milliseconds_and_images() -> None:
    timing = summarise([0.010, 0.011] * 9 + [0.010, 0.021], batch=8)
    assert (timing.runs, timing.p50_ms, timing.p90_ms, timing.p99_ms) == pytest.approx((20, 10, 11, 21))
    assert timing.images_per_s == pytest.approx(8 * 20 / 0.220)
    assert timing.unstable == ""


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([1.0] * 30, ""),
        ([1.0, 1.05, 0.95, 1.2] * 10, ""),
        ([1.0] * 9, "few runs: 9, "),
        ([1.0] * 20 + [1.2] * 20, "drift: runs of the second half took 20% longer"),
        ([1.25] * 20 + [1.0] * 20, "drift: runs of the second half took 20% shorter"),
        ([1.0, 1.0, 1.0, 1.0, 1.8] * 8, "spread: p90 is 1.8 times p50"),
        ([1.0] * 50 + [60.0] + [1.0] * 49, "stalls: a few slow runs pull the mean to 1.6 times p50"),
    ],
)
def test_what_is_called_unstable(samples: list[float], verdict: str) -> None:
    reason = why_unstable(samples)
    assert reason.startswith(verdict)
    assert bool(reason) == bool(verdict)
    assert why_unstable([1e-3 * sample for sample in samples]) == reason  # no matter how fast the network


def test_calls_take_turns_after_the_warm_up() -> None:
    clock = Clock()
    calls = {"a": clock.call("a", 9, 1), "b": clock.call("b", 8, 2)}
    samples = time_in_turn(calls, warmup=1, repeats=3, seconds=100, clock=clock)
    assert samples == {"a": [1, 1, 1], "b": [2, 2, 2]}
    assert clock.called == ["a", "b"] * 4


def test_the_time_allowed_ends_the_runs() -> None:
    clock = Clock()
    calls = {"a": clock.call("a", 0.25), "b": clock.call("b", 0.75)}
    samples = time_in_turn(calls, warmup=0, repeats=1000, seconds=4, clock=clock)
    assert {name: len(times) for name, times in samples.items()} == {"a": 8, "b": 8}  # 4 s for each


@pytest.mark.parametrize("seconds", [0, 1])
def test_slow_calls_get_the_fewest_runs_and_one_to_warm_up(seconds: float) -> None:
    clock = Clock()
    samples = time_in_turn({"a": clock.call("a", 60)}, warmup=3, repeats=1000, seconds=seconds, clock=clock)
    assert len(samples["a"]) == FEWEST_RUNS
    assert len(clock.called) == FEWEST_RUNS + 1


def test_fewer_runs_than_that_only_when_asked_for() -> None:
    clock = Clock()
    samples = time_in_turn({"a": clock.call("a", 60)}, warmup=0, repeats=2, seconds=1, clock=clock)
    assert samples == {"a": [60, 60]}
    assert clock.called == ["a", "a"]
