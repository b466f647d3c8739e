"""Ways to serve several tasks from one process, side by side, and which of them suits this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from packnet_deploy.bench.report import Measurement

WAYS = {
    "reload": "dense: one session at a time, opened anew for another task",
    "together": "dense: a session per task",
    "shared": "shared: a session per task, masks folded at load",
    "mapped": "shared: a session per task over one mapped bank, masked at each run",
    "selector": "selector: one session, masked at each run",
}
MUCH_SLOWER = 1.1  # times the fastest; whatever is closer counts as equally fast


@dataclass(frozen=True)
class Strategy:
    """One of ``WAYS``, measured at the smallest batch size.

    Attributes:
        memory_bytes: growth of resident memory by loading and running; None where the system does not tell.
        switch_ms: what a request takes longer when the one before it was for another task.
        p50_ms: the median task's median latency, without a switch.
    """

    name: str
    file_bytes: int
    memory_bytes: int | None
    switch_ms: float
    p50_ms: float

    @property
    def alternating_ms(self) -> float:
        """A request right after one for another task."""
        return self.p50_ms + self.switch_ms


def strategies(measurements: Sequence[Measurement]) -> list[Strategy]:
    """Every way that was measured, in the order of ``WAYS``; empty for a single task."""
    found = [_measured(m) for m in measurements if m.switch_ms is not None]
    separate = [m for m in measurements if m.strategy == "separate"]
    if found and len(separate) > 1:
        memories = [_memory(m) for m in separate]
        found.append(
            Strategy(
                name="reload",
                file_bytes=sum(m.file_bytes for m in separate),
                memory_bytes=None if None in memories else max(memory for memory in memories if memory is not None),
                switch_ms=median(m.load_ms for m in separate),
                p50_ms=median(_p50(m) for m in separate),
            )
        )
    return sorted(found, key=lambda way: list(WAYS).index(way.name))


def recommend(ways: Sequence[Strategy], budget: int | None) -> str:
    """One sentence: the fastest way for requests that alternate between tasks, as far as memory allows.

    Args:
        budget: bytes it may take; None where that is not known.
    """
    fitting = [way for way in ways if budget is None or way.memory_bytes is None or way.memory_bytes <= budget]
    if not fitting:
        least = min(ways, key=lambda way: way.memory_bytes or 0)
        return f"{least.name} ({WAYS[least.name]}): none fits {_mb(budget)}, the memory to spare; it comes closest"
    fastest = min(way.alternating_ms for way in fitting)
    equally_fast = [way for way in fitting if way.alternating_ms <= MUCH_SLOWER * fastest]
    best = min(equally_fast, key=lambda way: way.memory_bytes or 0)
    others = "" if len(equally_fast) == 1 else f", with the least memory of {len(equally_fast)} equally fast ways"
    return f"{best.name} ({WAYS[best.name]}): {best.alternating_ms:.3g} ms a request, switch included{others}"


def _measured(measured: Measurement) -> Strategy:
    return Strategy(measured.strategy, measured.file_bytes, _memory(measured), _switch(measured), _p50(measured))


def _switch(measured: Measurement) -> float:
    """Less than nothing is noise."""
    return max(0.0, measured.switch_ms or 0.0)


def _memory(measured: Measurement) -> int | None:
    if measured.load_memory_bytes is None or measured.run_memory_bytes is None:
        return None
    return measured.load_memory_bytes + measured.run_memory_bytes


def _p50(measured: Measurement) -> float:
    """Of the median task at the smallest batch; its requests are in turn, so a switch is taken off again."""
    smallest = min(row.batch for row in measured.latencies)
    return median(row.timing.p50_ms for row in measured.latencies if row.batch == smallest) - _switch(measured)


def _mb(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.0f} MB"
