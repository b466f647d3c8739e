"""The graph's side of a mask: ``weight = bank · (owner <= task)``, computed inside the model.

With a constant task ONNX Runtime computes it once, when it loads the model; with the task as an input, at each run.
A product with the mask's 0 and 1 takes half the time of ``Where`` there (measured: docs/exports.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, helper

Array = npt.NDArray[Any]

OWNER_STEP = "owner/step"  # initialiser of a graph for TensorRT: 1, the scale of its int8 owners
INT8_SHIFT = 128


def bank_name(weight: str) -> str:
    return f"{weight}/bank"


def owner_name(weight: str) -> str:
    return f"{weight}/owner"


def ratio_name(weight: str) -> str:
    return f"{weight}/ratio"


def mask_weights_in_place(
    graph: GraphProto, weights: Collection[str], ratios: Collection[str], task: str, engine: str
) -> None:
    """Put the nodes that compute each weight right before its first use, so that few of them live at once.

    The graph then needs, for each weight ``w``, initialisers or nodes that give ``w/bank`` and ``w/owner`` and, where
    it is among ``ratios``, ``w/ratio``; and ``task``, the value to compare owners with. For ``tensorrt`` owners are
    int8 (``int8_owners``), ``task`` is a float, and ``OWNER_STEP`` must be given.
    """
    waiting = set(weights)
    nodes: list[NodeProto] = []
    for node in graph.node:
        for name in node.input:
            if name in waiting:
                waiting.remove(name)
                nodes.extend(_mask_nodes(name, name in ratios, task, engine))
        nodes.append(node)
    ordered = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)


def int8_owners(owners: Mapping[str, npt.NDArray[np.uint8]]) -> dict[str, npt.NDArray[np.int8]]:
    """Owners as TensorRT can read them: one byte each as well, but dequantised, since it compares no bytes."""
    return {name: (owner ^ np.uint8(INT8_SHIFT)).view(np.int8) for name, owner in owners.items()}


def _mask_nodes(weight: str, scaled: bool, task: str, engine: str) -> Iterator[NodeProto]:
    owner = owner_name(weight)
    if engine == "tensorrt":
        yield _node("DequantizeLinear", [owner, OWNER_STEP], f"{owner}/float")
        owner = f"{owner}/float"
    yield _node("LessOrEqual", [owner, task], f"{weight}/mask")
    yield _node("Cast", [f"{weight}/mask"], f"{weight}/keep", to=TensorProto.FLOAT)
    masked = f"{weight}/masked" if scaled else weight
    yield _node("Mul", [bank_name(weight), f"{weight}/keep"], masked)
    if scaled:
        yield _node("Mul", [masked, ratio_name(weight)], weight)


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], f"{operator.lower()} {output}", **attributes)
