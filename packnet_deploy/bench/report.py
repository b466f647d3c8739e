"""What a benchmark run found, as dataclasses, JSON and CSV. The terminal's tables are ``table``'s business."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from packnet_deploy.bench.machine import Machine
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.timing import Timing

DEFINITIONS = {
    "separate": "each task's session alone in a process of its own",
    "together": "one session per task, all held in one process, requests in turn over the tasks",
    "shared": "as together, of a folder of layout shared",
    "mapped": "as shared, but its bank mapped into memory once for all sessions and masked at each run",
    "selector": "one session for all tasks, masked at each run, requests in turn over the tasks",
    "switch_ms": "what a request of the smallest batch takes longer after one for another task: median over the tasks "
    "of the p50 in turn less the p50 of the same request repeated; noise where it is near 0",
    "file_bytes": "the ONNX files and their external data, each file once",
    "load_ms": "opening the sessions, once; files in the page cache, process, imports and runtime already started",
    "load_memory_bytes": "growth of the process's resident memory over load; GPU memory is not counted",
    "run_memory_bytes": "further growth over all runs, the input images not counted",
    "latency": "from images to logits in ordinary memory, so copies to and from a GPU count; "
    "percentiles by nearest rank: each was really measured, and p99 of fewer than 100 runs is the slowest run",
}


@dataclass(frozen=True)
class Latency:
    """One task's timing at one batch size."""

    task: str
    batch: int
    timing: Timing


@dataclass(frozen=True)
class Measurement:
    """What one process found; ``DEFINITIONS`` says what each figure means.

    ``providers`` names, per task, the ONNX Runtime provider that really ran it. Memory is None where the operating
    system does not tell, and may be negative when the process gave memory back.
    """

    strategy: str
    tasks: tuple[str, ...]
    file_bytes: int
    load_ms: float
    load_memory_bytes: int | None
    run_memory_bytes: int | None
    providers: dict[str, str]
    notes: tuple[str, ...]
    latencies: tuple[Latency, ...]
    switch_ms: float | None = None  # None where there is but one task

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measurement:
        """The inverse of ``dataclasses.asdict``, JSON's lists and dicts included."""
        latencies = tuple(Latency(item["task"], item["batch"], Timing(**item["timing"])) for item in value["latencies"])
        lists = {"tasks": tuple(value["tasks"]), "notes": tuple(value["notes"]), "latencies": latencies}
        return cls(**{**value, **lists})


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
        """One line per strategy, task and batch size. A process's own figures are repeated on each of its lines;
        the machine, the options and the definitions are in the JSON only."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        shared = ("file_bytes", "load_ms", "load_memory_bytes", "run_memory_bytes")
        timed = tuple(Timing.__dataclass_fields__)
        writer.writerow(("strategy", "task", "provider", "batch", *timed, *shared))
        for measured, row in self.rows():
            figures = [getattr(row.timing, name) for name in timed]
            process = [getattr(measured, name) for name in shared]
            provider = measured.providers[row.task]
            writer.writerow([measured.strategy, row.task, provider, row.batch, *figures, *process])
        return text.getvalue()
