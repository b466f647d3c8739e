"""ONNX Runtime's CUDA provider and PyTorch on this GPU, as ``packnet bench`` measures them: what plans are beside."""

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
from packnet_deploy.gpu_report.section import Cell, Section
from packnet_deploy.gpu_report.sheet import Sheet

WAYS = {ONNXRUNTIME: ("together", "shared", "selector"), TORCH: ("lend",)}  # that run on the GPU
DEVICE = "cuda"
BATCHES = (1, 8)
SECONDS = 0.5  # for one task at one batch size
COLUMNS = (
    *("backend", "way", "in turn p50, ms", "in turn p99", "repeated p50", "repeated p99", "no copies p50"),
    *("no copies p99", "switch p50", "switch p99", f"images/s at {max(BATCHES)}", "GPU memory, MB", "files, MB", "by"),
)


def others(folder: Path, sheet: Sheet) -> Section:
    """What do ONNX Runtime on CUDA and PyTorch take?"""
    rows = [
        sheet.row((backend, way), COLUMNS, partial(_way, folder, backend, way))
        for backend, ways in WAYS.items()
        for way in ways
    ]
    return Section(
        "ONNX Runtime and PyTorch",
        f"{LARGE}, fp32, three tasks; latencies at batch {min(BATCHES)}, medians over the tasks, as `packnet bench` "
        "defines them. By: what really ran it.",
        COLUMNS,
        tuple(rows),
    )


def _way(folder: Path, backend: str, way: str) -> tuple[Cell, ...]:
    measured = run_job(_jobs(folder / backend, backend)[way])
    return (*way_cells(measured), ", ".join(dict.fromkeys(measured.providers.values())))


def _jobs(folder: Path, backend: str) -> dict[str, Job]:
    folder.mkdir(exist_ok=True)
    pack = large(folder.parent)
    options = BenchOptions(batch_sizes=BATCHES, seconds=SECONDS, device=DEVICE, backends=(backend,))
    return {job.way: job for job in jobs_of_pack(pack, [entry.name for entry in pack.tasks], folder, options)}


def way_cells(measured: Measurement) -> tuple[Cell, ...]:
    """A measurement as a row, without its label and what ran it."""
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
