"""Every way to serve several tasks, measured on this GPU as `packnet bench` does it: one section of the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from packnet_deploy.bench.job import Job
from packnet_deploy.bench.options import ONNXRUNTIME, TORCH, BenchOptions
from packnet_deploy.bench.prepare import jobs_of_pack
from packnet_deploy.bench.report import IN_TURN, NO_COPIES, REPEATED, Measurement
from packnet_deploy.bench.run import run_job
from packnet_deploy.gpu_report.engines import LARGE, MB, large
from packnet_deploy.gpu_report.section import Cell, Section, row
from packnet_deploy.pack import Pack
from packnet_deploy.trt.flavour import FLAVOURS
from packnet_deploy.trt.options import SWITCHES

ON_GPU = ("together", "shared", "selector", "lend")  # of the ways without TensorRT, those that run on the GPU
BATCHES = (1, 8, 32)
SECONDS = 0.5  # for one task at one batch size
COLUMNS = (
    "way",
    "in turn p50, ms",
    "in turn p99",
    "repeated p50",
    "repeated p99",
    "no copies p50",
    "no copies p99",
    "switch p50",
    "switch p99",
    f"images/s at {max(BATCHES)}",
    "GPU memory, MB",
    "files, MB",
)


def ways(folder: Path) -> Section:
    """What does each way to serve several tasks cost?"""
    pack, rows = large(folder), list[tuple[Cell, ...]]()
    for backend in (ONNXRUNTIME, TORCH, *FLAVOURS):
        for switch in SWITCHES if backend in FLAVOURS else SWITCHES[:1]:
            label = f"{switch} {backend}" if backend in FLAVOURS else backend
            try:
                jobs = _jobs(pack, folder / label.replace(" ", "-"), backend, switch)
            except Exception as error:
                rows.append(row((label,), COLUMNS, partial(_raise, error)))
                continue
            rows += [row((job.label,), COLUMNS, partial(_way, job)) for job in jobs]
    return Section(
        "Ways to serve several tasks",
        f"{LARGE}, fp32, {len(pack.tasks)} tasks; latencies at batch {min(BATCHES)}, medians over the tasks, as "
        "`packnet bench` defines them; 'graph': each batch is one CUDA graph.",
        COLUMNS,
        tuple(rows),
    )


def _jobs(pack: Pack, folder: Path, backend: str, switch: str) -> list[Job]:
    folder.mkdir()
    device = "auto" if backend in FLAVOURS else "cuda"
    options = BenchOptions(batch_sizes=BATCHES, seconds=SECONDS, device=device, backends=(backend,), switch=(switch,))
    jobs = jobs_of_pack(pack, [entry.name for entry in pack.tasks], folder, options)
    return [job for job in jobs if backend in FLAVOURS or job.way in ON_GPU]


def _way(job: Job) -> tuple[Cell, ...]:
    return way_cells(run_job(job))


def way_cells(measured: Measurement) -> tuple[Cell, ...]:
    """A measurement as a row, without its label."""
    latencies: list[Cell] = []
    for how in (IN_TURN, REPEATED, NO_COPIES):
        timings = [one.timing for one in measured.timings(how) if one.batch == min(BATCHES)]
        for percent in ("p50_ms", "p99_ms"):
            latencies.append(float(np.median([getattr(timing, percent) for timing in timings])) if timings else None)
    rows = measured.timings(REPEATED) or measured.timings(IN_TURN)
    rates = [one.timing.images_per_s for one in rows if one.batch == max(BATCHES)]
    return (
        *latencies,
        *((None, None) if measured.switch is None else (measured.switch.p50_ms, measured.switch.p99_ms)),
        float(np.median(rates)) if rates else None,
        None if measured.gpu_memory_bytes is None else measured.gpu_memory_bytes / MB,
        measured.file_bytes / MB,
    )


def _raise(error: Exception) -> tuple[Cell, ...]:
    raise error
