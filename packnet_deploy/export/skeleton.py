"""The pack's weight-free graph parsed, checked, and brought to what it is made for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto

from packnet_deploy.errors import ArtefactError, UsageError, reason
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.export.sizes import expect_takes_its_images
from packnet_deploy.export.target import Target
from packnet_deploy.pack.chain import TaskWeights
from packnet_deploy.pack.directory import OpenedPack, Pack
from packnet_deploy.pack.inputs import probe_batch
from packnet_deploy.pack.manifest import GRAPH_FILE
from packnet_deploy.runners.contract import IMAGES, LOGITS, Float32Array
from packnet_deploy.runners.rehearsal import rehearse
from packnet_deploy.runners.session import run_skeleton


def load_skeleton(pack: Pack, target: Target) -> ModelProto:
    """The pack's graph as ``target`` wants it, every weight still an input; its types are ``precision``'s business.

    Raises:
        ArtefactError: the pack's graph is damaged, or not one a pack may hold.
        UsageError: the graph cannot be brought to the opset, or does not take the image size, asked for.
    """
    model = _parse(pack.graph_bytes())
    # version_converter leaves small things undone even where nothing is to do, so it is called only when needed.
    opset = _opset(model)
    wanted = target.opset or max(opset, target.least_opset)
    if wanted != opset:
        model = _converted(model, wanted)
    images, logits = _sizes(_images(model.graph)), _sizes(model.graph.output[0])
    if target.batch is not None:
        images[0].dim_value = logits[0].dim_value = target.batch
    if target.input.shape != pack.input.shape:
        _, images[2].dim_value, images[3].dim_value = target.input.shape
        expect_takes_its_images(model)
    return model


def expected_logits(pack: OpenedPack, tasks: Collection[str], target: Target) -> dict[str, Float32Array]:
    """What exports and engines of ``tasks`` must answer to the probe batch, by task: see ``logits_at_size``."""
    if target.input == pack.input:
        return {task: pack.probe_logits(task) for task in tasks}
    return {task: logits_at_size(pack, pack.load_task(task), target) for task in tasks}


def logits_at_size(pack: Pack, weights: TaskWeights, target: Target) -> Float32Array:
    """A task's probe logits; at another image size than the pack's, what its graph answers at that size.

    Args:
        weights: the task's, as the pack has them.

    Raises:
        UsageError: the network does not take the image size asked for.
    """
    if target.input == pack.input:
        return weights.probe_logits
    as_trained = Target(PRECISIONS["fp32"], target.input)
    graph = load_skeleton(pack, as_trained).SerializeToString()
    try:
        return run_skeleton(graph, weights.tensors, probe_batch(target.input))
    except ArtefactError as error:
        raise UsageError(f"image size {target.input.shape[1]}: the network does not take it ({error})") from error


def weight_inputs(graph: GraphProto) -> dict[str, list[int]]:
    """Name and shape of every input but ``images``; -1 for the head's class count, the one symbolic size."""
    return {
        value.name: [-1 if size.dim_param else size.dim_value for size in _sizes(value)]
        for value in graph.input
        if value.name != IMAGES
    }


def expect_fit(graph: GraphProto, tensors: Mapping[str, npt.NDArray[np.float32]], classes: int) -> None:
    """Check that every input but ``images`` has a float32 tensor of its shape, and that there are no others.

    Raises:
        ArtefactError: one has not, or there are; names it.
    """
    inputs = weight_inputs(graph)
    if alone := sorted(inputs.keys() ^ tensors.keys()):
        name = alone[0]
        has = "graph" if name in inputs else "deltas"
        raise ArtefactError(
            f"tensor '{name}': expected in graph and deltas, got it in the {has} only; "
            "was this delta made for another backbone?"
        )
    for name, sizes in inputs.items():
        expected = tuple(classes if size < 0 else size for size in sizes)
        got = tensors[name]
        if got.shape != expected or got.dtype != np.float32:
            raise ArtefactError(
                f"tensor '{name}': the graph has float32 {list(expected)}, the delta {got.dtype} {list(got.shape)}; "
                "was this delta made for another backbone?"
            )


def drop_weight_inputs(graph: GraphProto) -> None:
    """Leave ``images`` as the only input; what was an input is to become an initialiser."""
    for value in [value for value in graph.input if value.name != IMAGES]:
        graph.input.remove(value)


def _parse(serialised: bytes) -> ModelProto:
    rehearse({GRAPH_FILE: serialised})
    model = onnx.load_model_from_string(serialised)
    graph = model.graph
    if [value.name for value in graph.output] != [LOGITS] or IMAGES not in {value.name for value in graph.input}:
        raise ArtefactError(
            f"{GRAPH_FILE}: expected an input '{IMAGES}' and one output '{LOGITS}', got outputs "
            f"{[value.name for value in graph.output]}; was this pack made by another program?"
        )
    if [len(_sizes(value)) for value in (_images(graph), graph.output[0])] != [4, 2]:
        raise ArtefactError(f"{GRAPH_FILE}: expected images of rank 4 and logits of shape [batch, classes]")
    return model


def _images(graph: GraphProto) -> Any:
    """The declaration of ``images``."""
    return next(value for value in graph.input if value.name == IMAGES)


def _sizes(value: Any) -> Any:
    """The dimensions of a tensor's shape; setting ``dim_value`` on one clears its symbol."""
    return value.type.tensor_type.shape.dim


def _opset(model: ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _converted(model: ModelProto, opset: int) -> ModelProto:
    from onnx import version_converter

    inputs = [value.name for value in model.graph.input]
    try:
        converted = version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises RuntimeError for what it cannot do, and others for its bugs
        what = f"opset: the graph cannot be brought from {_opset(model)} to {opset}"
        raise UsageError(f"{what}: {reason(error)}") from error
    assert [value.name for value in converted.graph.input] == inputs
    del converted.graph.value_info[:]
    converted.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(converted.opset_import))
    return converted
