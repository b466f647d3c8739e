"""Parity: logits computed in ONNX Runtime held against those that the training framework gave for the probe batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.session import open_session
from packnet_deploy.export.skeleton import input_spec, load_skeleton
from packnet_deploy.pack.chain import TaskWeights
from packnet_deploy.pack.inputs import probe_batch

if TYPE_CHECKING:
    import onnxruntime

    from packnet_deploy.pack.directory import OpenedPack, Pack

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


def expected_logits(pack: OpenedPack, tasks: Collection[str], options: ExportOptions) -> dict[str, FloatArray]:
    """What exports and engines of ``tasks`` must answer to the probe batch, by task: see ``logits_at_size``."""
    if _asks_the_pack(options):
        return {task: pack.probe_logits(task) for task in tasks}
    return {task: logits_at_size(pack, pack.load_task(task), options) for task in tasks}


def logits_at_size(pack: Pack, weights: TaskWeights, options: ExportOptions) -> FloatArray:
    """A task's probe logits; at another image size than the pack's, what its graph answers at that size.

    Args:
        weights: the task's, as the pack has them.

    Raises:
        UsageError: the network does not take the image size asked for.
    """
    if _asks_the_pack(options):
        return weights.probe_logits
    graph = load_skeleton(pack, ExportOptions(image_size=options.image_size)).SerializeToString()
    try:
        return run_skeleton(graph, weights.tensors, probe_batch(input_spec(pack, options)))
    except ArtefactError as error:
        raise UsageError(f"image size {options.image_size}: the network does not take it ({error})") from error


def _asks_the_pack(options: ExportOptions) -> bool:
    return options.image_size is None or not options.verify  # nobody will look at others


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
