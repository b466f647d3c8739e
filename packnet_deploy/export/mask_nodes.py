"""The graph's side of a mask: ``weight = bank · (rank <= task - 1)``, computed inside the model.

A rank is the owner's index minus one (deploy_bank.py); in the files its name is ``owner``.

With a constant task ONNX Runtime computes it once, when it loads the model; with the task as an input, at each run.
A product with the mask's 0 and 1 takes half the time of ``Where`` there (measured: docs/exports.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, helper

from packnet_deploy.export.target import TENSORRT

Array = npt.NDArray[Any]

RANK_STEP = "owner/step"  # initialiser of a graph for TensorRT: 1, the scale of its int8 ranks
INT8_SHIFT = 128


def bank_name(weight: str) -> str:
    return f"{weight}/bank"


def rank_name(weight: str) -> str:
    return f"{weight}/owner"


def mask_weights_in_place(graph: GraphProto, weights: Collection[str], task: str, engine: str) -> None:
    """Put the nodes that compute each weight right before its first use, so that few of them live at once.

    The graph then needs, for each weight ``w``, initialisers or nodes that give ``w/bank`` and ``w/owner``; and
    ``task``, the value to compare ranks with. For ``tensorrt`` ranks are int8 (``int8_ranks``), ``task`` is a float,
    and ``RANK_STEP`` must be given.
    """
    waiting = set(weights)
    nodes: list[NodeProto] = []
    for node in graph.node:
        for name in node.input:
            if name in waiting:
                waiting.remove(name)
                nodes.extend(_mask_nodes(name, task, engine))
        nodes.append(node)
    ordered = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)


def int8_ranks(ranks: Mapping[str, npt.NDArray[np.uint8]]) -> dict[str, npt.NDArray[np.int8]]:
    """Ranks as TensorRT can read them: one byte each as well, but dequantised, since it compares no bytes."""
    return {name: (rank ^ np.uint8(INT8_SHIFT)).view(np.int8) for name, rank in ranks.items()}


def _mask_nodes(weight: str, task: str, engine: str) -> Iterator[NodeProto]:
    rank = rank_name(weight)
    if engine == TENSORRT:
        yield _node("DequantizeLinear", [rank, RANK_STEP], f"{rank}/float")
        rank = f"{rank}/float"
    yield _node("LessOrEqual", [rank, task], f"{weight}/mask")
    yield _node("Cast", [f"{weight}/mask"], f"{weight}/keep", to=TensorProto.FLOAT)
    yield _node("Mul", [bank_name(weight), f"{weight}/keep"], weight)


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], f"{operator.lower()} {output}", **attributes)
