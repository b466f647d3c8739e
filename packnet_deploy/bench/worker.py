"""One measurement in this process: load what a job names, run it, say what it took.

Called by ``run`` in a fresh process. Works without PyTorch, unless that is what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from packnet_deploy.bench.backends import Held, opened, start
from packnet_deploy.bench.job import Job
from packnet_deploy.bench.memory import gpu_bytes_used, resident_bytes
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.report import GPU_TIME, NO_COPIES, REPEATED, Latency, Measurement
from packnet_deploy.bench.timing import Timing, summarise, time_in_turn
from packnet_deploy.errors import UsageError
from packnet_deploy.runners.contract import Float32Array
from packnet_deploy.runners.devices import device_of
from packnet_deploy.trt.flavour import FLAVOURS

Images = dict[str, Float32Array]
CHUNK = 1 << 20  # bytes


def measure(job: Job) -> Measurement:
    """Do the job in this process. Memory is honest only where nothing was loaded before."""
    options = job.options
    kind, index = device_of(options.device)
    used = partial(gpu_bytes_used, index) if job.backend in FLAVOURS or kind != "cpu" else lambda: None
    start(job)
    file_bytes = _read_through(job.files)
    gpu_before, before = used(), resident_bytes()
    begin = time.perf_counter()
    with opened(job) as held:
        load_ms = 1e3 * (time.perf_counter() - begin)
        load_memory = _growth(before, resident_bytes())
        images = _images(held, options)
        before = resident_bytes()
        latencies, switch_ms = _latencies(held, images, options)
        switch = _switch(held, options) if held.switch is not None and len(job.models) > 1 else None
        return Measurement(
            way=job.way,
            tasks=held.tasks,
            file_bytes=file_bytes,
            load_ms=load_ms,
            load_memory_bytes=load_memory,
            run_memory_bytes=_growth(before, resident_bytes()),
            providers=dict(held.providers),
            notes=held.notes(),
            latencies=tuple(latencies),
            switch_ms=switch_ms,
            switch=switch,
            gpu_memory_bytes=_growth(gpu_before, used()),
            backend=job.backend,
            cuda_graph=job.cuda_graph,
        )


def _latencies(held: Held, images: Images, options: BenchOptions) -> tuple[list[Latency], float | None]:
    """Every timing, and what a request of the smallest batch takes longer when the last one was for another task."""
    tasks, sizes, smallest = held.tasks, options.batch_sizes, min(options.batch_sizes)
    in_turn = [row for batch in sizes for row in _in_turn(held, images, batch, options)]
    if len(tasks) == 1:
        return in_turn + _without_copies(held, images, options), None
    repeated = []
    for row in in_turn:
        if row.batch == smallest or held.switch is not None:
            call = partial(held.runner.infer, images[row.task][: row.batch], row.task)
            # Of the untimed runs the first switches, and the second may capture a CUDA graph.
            times = time_in_turn({row.task: call}, warmup=2, repeats=row.timing.runs, seconds=options.seconds)
            repeated.append(Latency(row.task, row.batch, summarise(times[row.task], row.batch), REPEATED))
    p50s = {row.task: row.timing.p50_ms for row in repeated if row.batch == smallest}
    switch_ms = median(row.timing.p50_ms - p50s[row.task] for row in in_turn if row.batch == smallest)
    shown = repeated if held.switch is not None else []  # else they say what those in turn say
    return in_turn + shown + _without_copies(held, images, options), switch_ms


def _in_turn(held: Held, images: Images, batch: int, options: BenchOptions) -> list[Latency]:
    calls: dict[str, Callable[[], object]] = {
        task: partial(held.runner.infer, images[task][:batch], task) for task in held.tasks
    }
    samples = time_in_turn(calls, warmup=options.warmup, repeats=options.repeats, seconds=options.seconds)
    return [Latency(task, batch, summarise(times, batch)) for task, times in samples.items()]


def _without_copies(held: Held, images: Images, options: BenchOptions) -> list[Latency]:
    """The engine alone, of each task, for batches that it takes at once."""
    rows = []
    for batch in options.batch_sizes:
        for task in held.tasks:
            if held.again is None or (held.most is not None and batch > held.most):
                continue
            again = held.again(task, images[task][:batch])
            samples = time_in_turn(
                {task: again.run},
                warmup=1 + options.warmup,  # the first captures the CUDA graph
                repeats=options.repeats,
                seconds=options.seconds,
            )[task]
            rows.append(Latency(task, batch, summarise(samples, batch), NO_COPIES))
            if again.gpu_ms is not None:
                by_gpu = [again.gpu_ms() / 1e3 for _ in samples]
                rows.append(Latency(task, batch, summarise(by_gpu, batch), GPU_TIME))
    return rows


def _switch(held: Held, options: BenchOptions) -> Timing:
    """The switch alone: each call is for another task than the one before."""
    assert held.switch is not None
    calls: dict[str, Callable[[], object]] = {task: partial(held.switch, task) for task in held.tasks}
    samples = time_in_turn(calls, warmup=options.warmup, repeats=options.repeats, seconds=options.seconds)
    in_order = [time for one_round in zip(*samples.values(), strict=True) for time in one_round]
    return summarise(in_order, batch=1)


def _images(held: Held, options: BenchOptions) -> Images:
    """Random normal images of each model's own size, as many as the largest batch; one array for each size."""
    arrays: dict[tuple[int, ...], Float32Array] = {}
    images: Images = {}
    for task in held.tasks:
        shape = tuple(size for size in held.shapes[task] if size is not None)
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


def _growth(before: int | None, now: int | None) -> int | None:
    return None if now is None or before is None else now - before


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """``measure``, from JSON to JSON."""
    return asdict(measure(Job.from_json(job)))
