"""The check before an export gets its name: each of its tasks on the probe batch in ONNX Runtime, against the pack.

In bf16, of which ONNX Runtime's CPU knows nothing, the types are checked by onnx's own inference and the values in a
copy of the model whose tensors keep their bf16 values in float32. In fp16 activations are held against its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from packnet_deploy.errors import ArtefactError, CheckFailed, reason
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.target import Target
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import probe_batch
from packnet_deploy.runners.comparison import Difference, compare
from packnet_deploy.runners.contract import IMAGES, LOGITS, TASK, Float32Array
from packnet_deploy.runners.session import open_session, run_session


def check_export(
    path: Path, pack: Pack, probes: Mapping[str, Float32Array], target: Target, options: ExportOptions
) -> dict[str, Difference]:
    """Hold the model at ``path`` against the pack.

    Args:
        probes: for every task in the model, the logits that it must give (``expected_logits``).
        options: whether it is a selector, and what logits may differ by.

    Returns:
        How far the answers lie from the pack's, by task.

    Raises:
        ArtefactError: ONNX Runtime cannot load or run the model, its types do not fit, or it has other classes.
        CheckFailed: a task's logits differ by more than the tolerance, or a selector gives one to a class that the
            task does not have.
    """
    images = probe_batch(target.input)
    session = open_session(path if target.precision.name != "bf16" else _widened_copy(path))
    rtol = target.precision.tolerance if options.rtol is None else options.rtol
    differences = {}
    for task, expected in probes.items():
        requests = _requests(images, target.batch, _selected(pack, task, options))
        if target.precision.name == "fp16":
            for request in requests:
                _expect_no_overflow(path, request, task)
        got = np.concatenate([run_session(session, request) for request in requests])[: len(images)]
        if options.layout == "selector":
            got = _without_padding(got, expected.shape[1], task)
        differences[task] = compare(got, expected, rtol, options.atol)
        if not differences[task].passes:
            raise CheckFailed(f"task '{task}': the exported model is wrong, so nothing was kept: {differences[task]}")
    return differences


def _expect_no_overflow(path: Path, feeds: Mapping[str, npt.NDArray[Any]], task: str) -> None:
    """Run the model at ``path`` once; a second copy of its graph is left beside it.

    Raises:
        CheckFailed: an activation is infinite or NaN; names the first one.
    """
    model = onnx.load(path, load_external_data=False)
    known = {value.name for value in model.graph.output}
    names = [name for name in _activations(model.graph) if name not in known and not name.startswith(LOGITS)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    copy = path.with_name(f"{path.name}.activations")
    copy.write_bytes(model.SerializeToString())
    for name, values in zip(names, open_session(copy).run(names, dict(feeds)), strict=True):
        if not np.all(np.isfinite(values)):
            raise CheckFailed(
                f"task '{task}': activation '{name}' leaves float16's range on the probe batch, so nothing was kept; "
                "use --precision bf16 or fp32"
            )


def _activations(graph: onnx.GraphProto) -> list[str]:
    """What is computed from the images, in order."""
    found = {IMAGES: None}
    for node in graph.node:
        if any(name in found for name in node.input):
            found |= dict.fromkeys(node.output)
    return [name for name in found if name != IMAGES]


def _selected(pack: Pack, task: str, options: ExportOptions) -> int | None:
    return pack.task(task).index if options.layout == "selector" else None


def _without_padding(logits: Float32Array, classes: int, task: str) -> Float32Array:
    padding = logits[:, classes:]
    if not np.all(np.isneginf(padding)):
        raise CheckFailed(f"task '{task}': expected logits of -inf for the classes it does not have, got others")
    return logits[:, :classes]


def _requests(images: Float32Array, batch: int | None, task: int | None) -> list[dict[str, npt.NDArray[Any]]]:
    """Requests of ``batch`` images (all at once where None); the last one is filled up with repetitions."""
    size = batch or len(images)
    selected: dict[str, npt.NDArray[Any]] = {} if task is None else {TASK: np.array([task], np.int32)}
    return [
        {IMAGES: np.resize(images[start : start + size], (size, *images.shape[1:])), **selected}
        for start in range(0, len(images), size)
    ]


def _widened_copy(path: Path) -> Path:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # ValidationError, InferenceError, or what protobuf raises
        raise ArtefactError(f"{path.name}: not valid in bf16: {reason(error)}") from error
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        _widen_in_place(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
            elif attribute.HasField("t"):
                _widen_in_place(attribute.t)
    copy = path.with_name(f"{path.name}.widened")
    onnx.save(model, copy, save_as_external_data=True, location=f"{copy.name}.data")
    return copy


def _widen_in_place(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.BFLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(tensor), np.float32), tensor.name))
