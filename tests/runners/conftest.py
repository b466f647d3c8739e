"""A network small enough to be checked by hand: average each channel, then one linear layer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

for folder in ("trt", "export"):  # the stand-ins for TensorRT, and the packs
    sys.path.append(str(Path(__file__).parents[1] / folder))

WEIGHTS = {
    "birds": np.array([[1, 0, 0], [0, 2, 0]], np.float32),
    "flowers": np.array([[0, 0, 3], [1, 1, 1], [-1, 0, 0], [0, 5, 0]], np.float32),
}

WriteModel = Callable[..., Path]


@pytest.fixture
def heads() -> dict[str, dict[str, np.ndarray]]:
    """Each task's linear layer, under the names a pack gives it."""
    return {
        task: {"head.weight": weight, "head.bias": np.arange(len(weight), dtype=np.float32)}
        for task, weight in WEIGHTS.items()
    }


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, 3, 4, 5), dtype=np.float32)


@pytest.fixture
def oracle(heads: dict[str, dict[str, np.ndarray]]) -> Callable[[np.ndarray, str], np.ndarray]:
    """The network's answer without any engine."""

    def logits(images: np.ndarray, task: str) -> np.ndarray:
        return images.mean(axis=(2, 3)) @ heads[task]["head.weight"].T + heads[task]["head.bias"]

    return logits


@pytest.fixture
def write_model(tmp_path: Path, heads: dict[str, dict[str, np.ndarray]]) -> WriteModel:
    """Write a task's ONNX file; what the keywords say is what a wrong file has otherwise."""

    def write(
        task: str,
        *,
        images: str = "float[n, 3, 4, 5] images",
        logits: str = "float[n, classes] logits",
        metadata: Mapping[str, str] | None = None,
        external: bool = False,
    ) -> Path:
        (*_, image), (*_, output) = images.split(), logits.split()
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> {task} ({images}) => ({logits})'
            f" {{ pooled = GlobalAveragePool({image}) features = Flatten(pooled)"
            f" {output} = Gemm<transB = 1>(features, weight, bias) }}"
        )
        dtype = np.float16 if images.startswith("float16") else np.float32
        for name, value in heads[task].items():
            tensor = onnx.numpy_helper.from_array(value.astype(dtype), name.removeprefix("head."))
            model.graph.initializer.append(tensor)
        onnx.helper.set_model_props(model, dict(metadata or {}))
        path = tmp_path / f"{task}.onnx"
        onnx.save(model, path, save_as_external_data=external, location=f"{task}.data", size_threshold=0)
        return path

    return write
