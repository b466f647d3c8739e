"""From a pack to one task's model: the pack's graph with the task's tensors bound to its inputs, not yet serialised."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto

from packnet_deploy.errors import ArtefactError
from packnet_deploy.export.fold import fold_normalisation_in_place

if TYPE_CHECKING:
    from packnet_deploy.pack.directory import Pack

IMAGES, LOGITS = "images", "logits"


@dataclass
class TaskModel:
    """A model whose weights lie beside it."""

    model: ModelProto  # only images as input; its initialisers, tiny constants aside, are `tensors`
    tensors: dict[str, npt.NDArray[np.float32]]  # in the order of the graph's inputs, new biases last
    probe_logits: npt.NDArray[np.float32]  # [probe images, classes]

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator occurs, most frequent first."""
        return dict(Counter(node.op_type for node in self.model.graph.node).most_common())


def bind_task(pack: Pack, task: str, layout: str) -> TaskModel:
    """Load a task, fold its normalisation, and state name, classes and preprocessing in the model's metadata.

    ``layout`` only goes into the metadata; laying the tensors out comes after.

    Raises:
        UsageError: no such task.
        ArtefactError: the pack's files are damaged, or graph and weights do not fit together.
    """
    serialised = pack.graph_bytes()
    weights = pack.load_task(task)
    model = _parse(serialised)
    graph = model.graph
    _expect_fit(graph, weights.tensors, len(weights.classes))
    tensors = {value.name: weights.tensors[value.name] for value in graph.input if value.name != IMAGES}
    fold_normalisation_in_place(graph, tensors)

    for value in [value for value in graph.input if value.name != IMAGES]:
        graph.input.remove(value)
    graph.name = task
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(weights.classes)
    entry = pack.task(task)
    onnx.helper.set_model_props(
        model,
        {
            "task": task,
            "classes": json.dumps(list(weights.classes), ensure_ascii=False),
            "preprocessing": json.dumps(pack.input.to_json(), sort_keys=True),
            "packnet.layout": layout,
            "packnet.delta_sha256": entry.sha256,
            "packnet.graph_sha256": sha256(serialised).hexdigest(),
        },
    )
    return TaskModel(model, tensors, weights.probe_logits)


def _parse(serialised: bytes) -> ModelProto:
    try:
        model = onnx.load_model_from_string(serialised)
    except Exception as error:  # google.protobuf's DecodeError, under a name that differs between its backends
        raise ArtefactError(f"graph.onnx: not an ONNX model ({error}); take the pack from its source again") from error
    graph = model.graph
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ArtefactError("graph.onnx: expected a graph without external data; do not use this pack")
    if [value.name for value in graph.output] != [LOGITS] or IMAGES not in {value.name for value in graph.input}:
        raise ArtefactError(
            f"graph.onnx: expected an input '{IMAGES}' and one output '{LOGITS}', got outputs "
            f"{[value.name for value in graph.output]}; was this pack made by another program?"
        )
    if len(graph.output[0].type.tensor_type.shape.dim) != 2:
        raise ArtefactError("graph.onnx: expected logits of shape [batch, classes]")
    return model


def _expect_fit(graph: onnx.GraphProto, tensors: dict[str, npt.NDArray[np.float32]], classes: int) -> None:
    """Every input but ``images`` has a float32 tensor of its shape, and there are no others."""
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input if value.name != IMAGES}
    if alone := sorted(inputs.keys() ^ tensors.keys()):
        name = alone[0]
        has = "graph" if name in inputs else "deltas"
        raise ArtefactError(
            f"tensor '{name}': expected in graph and deltas, got it in the {has} only; "
            "was this delta made for another backbone?"
        )
    for name, dims in inputs.items():
        # The head's first dimension is the only symbolic one.
        expected = tuple(classes if size.dim_param else size.dim_value for size in dims)
        got = tensors[name]
        if got.shape != expected or got.dtype != np.float32:
            raise ArtefactError(
                f"tensor '{name}': the graph has float32 {list(expected)}, the delta {got.dtype} {list(got.shape)}; "
                "was this delta made for another backbone?"
            )
