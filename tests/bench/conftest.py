"""Tiny models to measure, options that ask for as little as possible, and reports of made-up figures."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from packnet_deploy.bench.machine import Machine
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.report import IN_TURN, NO_COPIES, REPEATED, BenchReport, Latency, Measurement
from packnet_deploy.bench.timing import Timing

for folder in ("trt", "export"):  # the stand-ins for TensorRT, and the packs
    sys.path.append(str(Path(__file__).parents[1] / folder))

CALM = Timing(runs=120, p50_ms=1.5, p90_ms=1.75, p99_ms=2.0, images_per_s=1234.5, unstable="")
SHAKY = Timing(runs=5, p50_ms=1500.0, p90_ms=1600.0, p99_ms=1700.0, images_per_s=21.0, unstable="few runs: 5, expected")
DRIFTING = dataclasses.replace(CALM, unstable="drift: slower")
CPU = "CPUExecutionProvider"

CLASSES = {"birds": 2, "flowers": 3}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """Two tasks' ONNX files; the weights of flowers.onnx are external data."""
    paths = {}
    for task, classes in CLASSES.items():
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> {task}'
            f" (float[n, 3, 8, 8] images) => (float[n, {classes}] logits)"
            f" {{ pooled = GlobalAveragePool(images) features = Flatten(pooled)"
            f" logits = Gemm<transB = 1>(features, weight) }}"
        )
        weight = onnx.numpy_helper.from_array(np.ones((classes, 3), np.float32), "weight")
        model.graph.initializer.append(weight)
        paths[task] = tmp_path / f"{task}.onnx"
        external = task == "flowers"
        onnx.save(model, paths[task], save_as_external_data=external, location="flowers.data", size_threshold=0)
    return paths


@pytest.fixture
def options() -> BenchOptions:
    return BenchOptions(batch_sizes=(1, 3), repeats=12, seconds=5, warmup=1, threads=1, device="cpu")


@pytest.fixture
def report() -> BenchReport:
    alone = Measurement(
        way="separate",
        tasks=("birds",),
        file_bytes=12_300_000,
        load_ms=45.0,
        load_memory_bytes=67_800_000,
        run_memory_bytes=-4096,
        providers={"birds": CPU},
        notes=("no CUDA",),
        latencies=(Latency("birds", 1, CALM), Latency("birds", 32, SHAKY)),
    )
    together = dataclasses.replace(
        alone,
        way="together",
        tasks=("birds", "flowers"),
        load_memory_bytes=None,
        run_memory_bytes=None,
        providers={"birds": "CUDAExecutionProvider", "flowers": CPU},
        latencies=(Latency("birds", 1, DRIFTING), Latency("flowers", 1, SHAKY)),
    )
    machine = Machine("Fast CPU", 2, 4, ("H200",), "Linux x86_64", {"python": "3.11"})
    return BenchReport(machine, BenchOptions(threads=2), (alone, together))


@pytest.fixture
def engines(report: BenchReport) -> BenchReport:
    """An engine that is refitted, without and with a CUDA graph, beside the same report."""
    rates = {IN_TURN: 100.0, REPEATED: 300.0, NO_COPIES: 400.0}
    rows = tuple(
        Latency(task, batch, Timing(120, 2.5 * batch, 2.75 * batch, 3.0 * batch, batch * rates[how], ""), how)
        for how in (IN_TURN, REPEATED, NO_COPIES)
        for batch in (1, 8)
        for task in ("birds", "flowers")
    )
    refit = dataclasses.replace(
        report.measurements[0],
        way="refit",
        tasks=("birds", "flowers"),
        providers=dict.fromkeys(("birds", "flowers"), "TensorRT-RTX"),
        latencies=rows,
        switch_ms=1.0,
        switch=dataclasses.replace(CALM, p50_ms=0.75, p99_ms=0.875),
        gpu_memory_bytes=45_600_000,
        backend="tensorrt-rtx",
    )
    return dataclasses.replace(
        report, measurements=(*report.measurements, refit, dataclasses.replace(refit, cuda_graph=True))
    )
