"""One measurement in this process: load the sessions of a job, run them, say what it took.

Started by ``plan`` in a fresh process, with the job as JSON on stdin and the answer as JSON on stdout. Works without
PyTorch.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from packnet_deploy.bench.memory import resident_bytes
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.report import Latency, Measurement
from packnet_deploy.bench.timing import summarise, time_in_turn
from packnet_deploy.errors import PackNetError, UsageError
from packnet_deploy.runners.contract import Float32Array
from packnet_deploy.runners.onnx import OnnxRunner, start_runtime

CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Job:
    """What one process is to measure.

    Attributes:
        strategy: one of ``report.DEFINITIONS``' strategies, repeated in the answer.
        models: the ONNX file of each task to hold.
        files: all files the models consist of, each once.
    """

    strategy: str
    models: dict[str, str]
    files: tuple[str, ...]
    options: BenchOptions

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        return cls(**{**value, "files": tuple(value["files"]), "options": BenchOptions(**value["options"])})


def measure(job: Job) -> Measurement:
    """Do the job in this process. Memory is honest only where nothing was loaded before."""
    options = job.options
    start_runtime(options.device)
    file_bytes = _read_through(job.files)
    mapped = job.strategy == "mapped"
    models = {task: Path(path) for task, path in job.models.items()}
    runner = OnnxRunner(models, "cpu" if mapped else options.device, options.threads, mapped=mapped)
    before = resident_bytes()
    start = time.perf_counter()
    with runner:
        load_ms = 1e3 * (time.perf_counter() - start)
        load_memory = _growth(before)
        images = _images(runner, options)
        before = resident_bytes()
        latencies = [row for batch in options.batch_sizes for row in _latencies(runner, images, batch, options)]
        run_memory = _growth(before)
        return Measurement(
            strategy=job.strategy,
            tasks=runner.tasks,
            file_bytes=file_bytes,
            load_ms=load_ms,
            load_memory_bytes=load_memory,
            run_memory_bytes=run_memory,
            providers=runner.providers,
            notes=tuple(runner.notes),
            latencies=tuple(latencies),
            switch_ms=_switch_ms(runner, images, latencies, options) if len(job.models) > 1 else None,
        )


def _latencies(
    runner: OnnxRunner, images: Mapping[str, Float32Array], batch: int, options: BenchOptions
) -> list[Latency]:
    calls: dict[str, Callable[[], object]] = {
        task: partial(runner.infer, images[task][:batch], task) for task in runner.tasks
    }
    samples = time_in_turn(calls, warmup=options.warmup, repeats=options.repeats, seconds=options.seconds)
    return [Latency(task, batch, summarise(times, batch)) for task, times in samples.items()]


def _switch_ms(
    runner: OnnxRunner, images: Mapping[str, Float32Array], in_turn: Sequence[Latency], options: BenchOptions
) -> float:
    """How much faster the smallest batch of a task is when nothing else runs between; median over the tasks."""
    batch = min(options.batch_sizes)
    losses = []
    for row in in_turn:
        if row.batch == batch:
            call = partial(runner.infer, images[row.task][:batch], row.task)
            repeated = time_in_turn({row.task: call}, warmup=1, repeats=row.timing.runs, seconds=options.seconds)
            losses.append(row.timing.p50_ms - summarise(repeated[row.task], batch).p50_ms)
    return median(losses)


def _images(runner: OnnxRunner, options: BenchOptions) -> dict[str, Float32Array]:
    """Random normal images of each model's own size, as many as the largest batch; one array for each size."""
    arrays: dict[tuple[int, ...], Float32Array] = {}
    images = {}
    for task in runner.tasks:
        shape = tuple(size for size in runner.input_shape(task)[1:] if size is not None)
        if len(shape) != 3:
            raise UsageError(
                f"task '{task}': its model leaves the size of its images open, "
                f"expected fixed channels, height and width; export it with packnet export"
            )
        if shape not in arrays:
            generator = np.random.default_rng(options.seed)
            size = (max(options.batch_sizes), *shape)
            arrays[shape] = generator.standard_normal(size, dtype=np.float32)
        images[task] = arrays[shape]
    return images


def _read_through(files: tuple[str, ...]) -> int:
    """Read every file once, into the page cache and nowhere else, so that load times compare. Returns the bytes."""
    chunk, total = bytearray(CHUNK), 0
    for name in files:
        with open(name, "rb", buffering=0) as file:
            while count := file.readinto(chunk):
                total += count
    return total


def _growth(before: int | None) -> int | None:
    now = resident_bytes()
    return None if now is None or before is None else now - before


def main() -> None:
    """Answer one job: ``{"measurement": …}``, or ``{"error": class name, "message": one line}``."""
    answer_fd = os.dup(1)  # whatever libraries print to stdout goes to stderr, the answer stays clean
    os.dup2(2, 1)
    try:
        answer: dict[str, Any] = {"measurement": asdict(measure(Job.from_json(json.load(sys.stdin))))}
    except KeyboardInterrupt:
        sys.exit(130)
    except PackNetError as error:
        traceback.print_exc()
        answer = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        traceback.print_exc()
        message = " ".join(f"{type(error).__name__}: {error}".split())
        answer = {"error": "PackNetError", "message": message}
    with open(answer_fd, "w", encoding="utf-8") as out:
        json.dump(answer, out)
