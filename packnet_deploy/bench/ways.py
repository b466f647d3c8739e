"""Ways to serve several tasks from one process, side by side, and which of them suits this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from packnet_deploy.bench.job import WAYS, way_label
from packnet_deploy.bench.options import BACKENDS, ONNXRUNTIME
from packnet_deploy.bench.report import IN_TURN, Measurement

MUCH_SLOWER = 1.1  # times the fastest; whatever is closer counts as equally fast


@dataclass(frozen=True)
class Way:
    """One of ``WAYS``, measured at the smallest batch size.

    Attributes:
        memory_bytes: growth of resident memory by loading and running; None where the system does not tell.
        switch_ms: what a request takes longer when the one before it was for another task.
        p50_ms: the median task's median latency, without a switch.
        gpu_memory_bytes: growth of the GPU's memory in use; None where none is used.
        backend, cuda_graph: as measured.
    """

    name: str
    file_bytes: int
    memory_bytes: int | None
    switch_ms: float
    p50_ms: float
    gpu_memory_bytes: int | None = None
    backend: str = ONNXRUNTIME
    cuda_graph: bool = False

    @property
    def alternating_ms(self) -> float:
        """A request right after one for another task."""
        return self.p50_ms + self.switch_ms

    @property
    def label(self) -> str:
        return way_label(self.name, self.backend, cuda_graph=self.cuda_graph)

    def fits(self, budget: int | None, gpu_budget: int | None) -> bool:
        """Whether memory and GPU memory suffice, as far as they are known."""
        taken = ((self.memory_bytes, budget), (self.gpu_memory_bytes, gpu_budget))
        return all(bytes is None or most is None or bytes <= most for bytes, most in taken)

    @property
    def all_memory(self) -> int:
        """The host's and the GPU's, as far as they are known."""
        return (self.memory_bytes or 0) + (self.gpu_memory_bytes or 0)


def ways_of(measurements: Sequence[Measurement]) -> list[Way]:
    """Every way that was measured, in the order of ``WAYS``; empty for a single task."""
    found = [_measured(m) for m in measurements if m.switch_ms is not None]
    separate = [m for m in measurements if m.way == "separate"]
    if found and len(separate) > 1:
        memories, on_gpu = [_memory(m) for m in separate], [m.gpu_memory_bytes for m in separate]
        found.append(
            Way(
                name="reload",
                file_bytes=sum(m.file_bytes for m in separate),
                memory_bytes=_most(memories),
                switch_ms=median(m.load_ms for m in separate),
                p50_ms=median(_p50(m) for m in separate),
                gpu_memory_bytes=_most(on_gpu),
            )
        )
    order = list(WAYS)
    return sorted(found, key=lambda way: (BACKENDS.index(way.backend), order.index(way.name), way.cuda_graph))


def recommend(ways: Sequence[Way], budget: int | None, gpu_budget: int | None = None) -> str:
    """One sentence: the fastest way for requests that alternate between tasks, as far as memory allows.

    Args:
        budget: bytes it may take; None where that is not known.
        gpu_budget: the same of the GPU's memory.
    """
    fitting = [way for way in ways if way.fits(budget, gpu_budget)]
    if not fitting:
        least = min(ways, key=lambda way: way.all_memory)
        spare = _mb(budget) if least.fits(None, gpu_budget) else f"{_mb(gpu_budget)} of the GPU"
        return f"{least.label} ({WAYS[least.name]}): none fits {spare}, the memory to spare; it comes closest"
    fastest = min(way.alternating_ms for way in fitting)
    equally_fast = [way for way in fitting if way.alternating_ms <= MUCH_SLOWER * fastest]
    best = min(equally_fast, key=lambda way: way.all_memory)
    others = "" if len(equally_fast) == 1 else f", with the least memory of {len(equally_fast)} equally fast ways"
    return f"{best.label} ({WAYS[best.name]}): {best.alternating_ms:.3g} ms a request, switch included{others}"


def _measured(measured: Measurement) -> Way:
    return Way(
        name=measured.way,
        file_bytes=measured.file_bytes,
        memory_bytes=_memory(measured),
        switch_ms=_switch(measured),
        p50_ms=_p50(measured),
        gpu_memory_bytes=measured.gpu_memory_bytes,
        backend=measured.backend,
        cuda_graph=measured.cuda_graph,
    )


def _switch(measured: Measurement) -> float:
    """Less than nothing is noise."""
    return max(0.0, measured.switch_ms or 0.0)


def _memory(measured: Measurement) -> int | None:
    if measured.load_memory_bytes is None or measured.run_memory_bytes is None:
        return None
    return measured.load_memory_bytes + measured.run_memory_bytes


def _p50(measured: Measurement) -> float:
    """Of the median task at the smallest batch; its requests are in turn, so a switch is taken off again."""
    in_turn = measured.timings(IN_TURN)
    smallest = min(row.batch for row in in_turn)
    return median(row.timing.p50_ms for row in in_turn if row.batch == smallest) - _switch(measured)


def _most(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None


def _mb(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.0f} MB"
