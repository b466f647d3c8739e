"""Tiny models to measure, and options that ask for as little as possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from packnet_deploy.bench.options import BenchOptions

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
