"""Parity: logits computed in ONNX Runtime held against those that the training framework gave for the probe batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError
from packnet_deploy.export.session import open_session
from packnet_deploy.pack.inputs import probe_batch

if TYPE_CHECKING:
    import onnxruntime

    from packnet_deploy.pack.directory import Pack

TOLERANCE = 1e-4  # of the logits' scale; float32 in another order of summation stays an order of magnitude below

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """How far two sets of logits lie apart; NaN or infinite logits never pass."""

    max_difference: float  # largest |got - expected|
    scale: float  # largest |expected|
    rtol: float = TOLERANCE  # of the scale
    atol: float = 0.0

    @property
    def allowed(self) -> float:
        return self.atol + self.rtol * self.scale

    @property
    def passes(self) -> bool:
        return bool(np.isfinite(self.scale)) and self.max_difference <= self.allowed

    def __str__(self) -> str:
        absolute = f"{self.atol:g} and " if self.atol else ""
        return (
            f"logits differ by up to {self.max_difference:.3g}, allowed is {self.allowed:.3g} "
            f"({absolute}{self.rtol:g} of their scale {self.scale:.3g})"
        )


def compare(got: FloatArray, expected: FloatArray, rtol: float = TOLERANCE, atol: float = 0.0) -> Difference:
    """The difference between two arrays ``[images, classes]``.

    Raises:
        ArtefactError: their shapes differ.
    """
    if got.shape != expected.shape:
        raise ArtefactError(f"logits: expected shape {list(expected.shape)}, got {list(got.shape)}")
    return Difference(
        max_difference=float(np.max(np.abs(got.astype(np.float64) - expected), initial=0.0)),
        scale=float(np.max(np.abs(expected), initial=0.0)),
        rtol=rtol,
        atol=atol,
    )


def task_difference(pack: Pack, task: str) -> Difference:
    """Recompute a task's probe logits from the pack alone: its graph, fed with the task's weights as they are.

    Nothing is folded, serialised or written, so this works at any size and judges the pack, not an export.

    Raises:
        UsageError: no such task.
        ArtefactError: the pack is damaged, or ONNX Runtime cannot run its graph.
    """
    weights = pack.load_task(task)
    got = run_skeleton(pack.graph_bytes(), weights.tensors, probe_batch(pack.input))
    return compare(got, weights.probe_logits)


def run_skeleton(graph: bytes, tensors: Mapping[str, FloatArray], images: FloatArray) -> FloatArray:
    """Logits ``[images, classes]`` of a weight-free graph whose inputs are ``images`` and every tensor by name."""
    return run_session(open_session(graph), {"images": images, **tensors})


def run_session(session: onnxruntime.InferenceSession, feeds: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
    """The logits of one request.

    Raises:
        ArtefactError: ONNX Runtime cannot run the graph.
    """
    try:
        (logits,) = session.run(None, dict(feeds))
    except Exception as error:  # onnxruntime raises a family of pybind exceptions without a common base
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ArtefactError(f"ONNX Runtime cannot run the graph: {reason}") from error
    return np.asarray(logits)
