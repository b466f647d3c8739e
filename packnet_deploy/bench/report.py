"""What a benchmark run found, as dataclasses, JSON and CSV. The terminal's tables are ``table``'s business."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from packnet_deploy.bench.job import WAYS, way_label
from packnet_deploy.bench.machine import Machine
from packnet_deploy.bench.options import ONNXRUNTIME, BenchOptions
from packnet_deploy.bench.timing import Timing
from packnet_deploy.reports.sheet import row_writer

IN_TURN, REPEATED, NO_COPIES, GPU_TIME = "in turn", "repeated", "no copies", "GPU time"

DEFINITIONS = {
    **WAYS,
    "cuda_graph": "each batch is one CUDA graph from its second time on; refit captures it anew after each switch, so "
    "that in turn it runs none",
    "how": "in turn: requests in turn over the tasks, so a switch is in each; repeated: one task again and again, no "
    "switch; no copies: the same, images already on the GPU and logits left there; GPU time: that by the GPU's own "
    "events, from when its stream comes to the batch until it is done, so that the host's part is not in it",
    "switch": "the call that makes an engine another task, alone, in turn over the tasks, with the GPU at rest before "
    "and after; images_per_s: switches in a second",
    "switch_ms": "what a request of the smallest batch takes longer after one for another task: median over the tasks "
    "of the p50 in turn less the p50 of the same request repeated; noise where it is near 0",
    "file_bytes": "all files that are loaded, each once: ONNX files and their external data, plans and sidecars, and "
    "the pack where weights come from it (refit, bind, lend)",
    "load_ms": "opening the sessions or engines, once; files in the page cache, process, imports and runtime already "
    "started",
    "load_memory_bytes": "growth of the process's resident memory over load; GPU memory is not counted",
    "run_memory_bytes": "further growth over all runs, the input images not counted",
    "gpu_memory_bytes": "growth of the GPU's memory in use over load and all runs, as its driver counts it, whoever "
    "took it; CUDA's own context is not in it",
    "latency": "from images to logits in ordinary memory, so copies to and from a GPU count, but for no copies; "
    "percentiles by nearest rank: each was really measured, and p99 of fewer than 100 runs is the slowest run",
}


@dataclass(frozen=True)
class Latency:
    """One task's timing at one batch size; ``how`` is ``IN_TURN``, ``REPEATED``, ``NO_COPIES`` or ``GPU_TIME``."""

    task: str
    batch: int
    timing: Timing
    how: str = IN_TURN


@dataclass(frozen=True)
class Measurement:
    """What one process found; ``DEFINITIONS`` says what each figure means.

    ``providers`` names, per task, what really ran it: for ONNX Runtime its provider. Memory is None where the system
    does not tell or no GPU was used, and may be negative when the process gave memory back.
    """

    way: str
    tasks: tuple[str, ...]
    file_bytes: int
    load_ms: float
    load_memory_bytes: int | None
    run_memory_bytes: int | None
    providers: dict[str, str]
    notes: tuple[str, ...]
    latencies: tuple[Latency, ...]
    switch_ms: float | None = None  # None where there is but one task
    switch: Timing | None = None  # None where no switch can be told from a request
    gpu_memory_bytes: int | None = None
    backend: str = ONNXRUNTIME
    cuda_graph: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measurement:
        """The inverse of ``dataclasses.asdict``, JSON's lists and dicts included."""
        latencies = tuple(Latency(**{**item, "timing": Timing(**item["timing"])}) for item in value["latencies"])
        switch = None if value["switch"] is None else Timing(**value["switch"])
        read = {"tasks": tuple(value["tasks"]), "notes": tuple(value["notes"]), "latencies": latencies}
        return cls(**{**value, **read, "switch": switch})

    @property
    def label(self) -> str:
        """Way, backend where it is not ONNX Runtime, and CUDA graph."""
        return way_label(self.way, self.backend, cuda_graph=self.cuda_graph)

    def timings(self, how: str) -> tuple[Latency, ...]:
        """Those of one kind."""
        return tuple(row for row in self.latencies if row.how == how)


@dataclass(frozen=True)
class BenchReport:
    """All measurements of one run, and what they were made with."""

    machine: Machine
    options: BenchOptions
    measurements: tuple[Measurement, ...]

    def rows(self) -> Iterator[tuple[Measurement, Latency]]:
        """Every timing beside the measurement it belongs to."""
        return ((measured, row) for measured in self.measurements for row in measured.latencies)

    @property
    def stable(self) -> bool:
        """Whether every timing may be trusted; each timing's ``unstable`` says why not."""
        return not any(row.timing.unstable for _, row in self.rows())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not done as asked for, each once."""
        return tuple(dict.fromkeys(note for measured in self.measurements for note in measured.notes))

    def to_json(self) -> dict[str, Any]:
        """Everything, in types that ``json.dumps`` takes. Times in ms, sizes in bytes."""
        return {"definitions": DEFINITIONS, "stable": self.stable, **asdict(self)}

    def to_csv(self) -> str:
        """One line per way, task and batch size. A process's own figures are repeated on each of its lines;
        the machine, the options and the definitions are in the JSON only."""
        text = io.StringIO()
        write = row_writer(text)
        process = ("file_bytes", "load_ms", "load_memory_bytes", "run_memory_bytes", "gpu_memory_bytes")
        timed = tuple(Timing.__dataclass_fields__)
        switching = ("switch_p50_ms", "switch_p99_ms", "backend", "cuda_graph")
        write(("way", "task", "provider", "batch", *timed, *process, *switching, "how"))
        for measured, row in self.rows():
            switch = measured.switch
            write(
                [
                    *(measured.way, row.task, measured.providers[row.task], row.batch),
                    *(getattr(row.timing, name) for name in timed),
                    *(getattr(measured, name) for name in process),
                    *((None, None) if switch is None else (switch.p50_ms, switch.p99_ms)),
                    *(measured.backend, measured.cuda_graph, row.how),
                ]
            )
        return text.getvalue()
