"""Normalisation as a scale and a shift in the graph: what is left of it when tasks share a bank.

    gamma · (x - mean) / sqrt(var + eps) + beta  =  x · scale + shift,    scale = gamma / sqrt(var + eps)

A fold (fold.py) would put the scale into the weights, and a task with normalisation of its own would need others
wherever it has. So where one bank backs all tasks its values stay as they were trained, and each normalisation with
given values becomes a ``Mul`` and an ``Add``, whatever feeds it, with two small tensors that a task brings along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from packnet_deploy.export.fold import Tensors

_EPSILON = 1e-5  # ONNX's default


@dataclass(frozen=True)
class Norm:
    """One normalisation that is a scale and a shift now.

    Attributes:
        scale, shift: the names of the tensors that it reads.
        norm: gamma, beta, mean and variance, which it read before.
        freed: those of ``norm`` that nothing reads any more.
        shape: of scale and shift, with which they broadcast over what is normalised: -1, then a 1 for each dimension
            that follows the channels.
    """

    scale: str
    shift: str
    norm: tuple[str, str, str, str]
    freed: tuple[str, ...]
    epsilon: float
    shape: tuple[int, ...]


def unfold_norms_in_place(model: ModelProto, given: Collection[str]) -> list[Norm]:
    """Replace every normalisation of the graph that can be; the others stay as they are.

    Args:
        given: the tensors whose values will be known.
    """
    graph = model.graph
    ranks = _ranks(model)
    uses = Counter(name for node in graph.node for name in node.input)
    taken = {*given, *(name for node in graph.node for name in (*node.input, *node.output))}
    norms: list[Norm] = []
    nodes: list[NodeProto] = []
    for node in graph.node:
        rank = ranks.get(node.input[0], 0) if node.op_type == "BatchNormalization" else 0
        values = tuple(node.input[1:5])
        if rank < 2 or not {*values} <= {*given} or len(node.output) != 1 or _attribute(node, "training_mode", 0):
            nodes.append(NodeProto.FromString(node.SerializeToString()))
            continue
        uses.subtract(values)
        scale, shift = (_free_name(f"{values[0].removesuffix('.weight')}.{kind}", taken) for kind in ("scale", "shift"))
        scaled = _free_name(f"{node.output[0]}/scaled", taken)
        nodes.append(helper.make_node("Mul", [node.input[0], scale], [scaled], f"{node.name}/scale"))
        nodes.append(helper.make_node("Add", [scaled, shift], [node.output[0]], f"{node.name}/shift"))
        norms.append(
            Norm(
                scale=scale,
                shift=shift,
                norm=(values[0], values[1], values[2], values[3]),
                freed=tuple(name for name in dict.fromkeys(values) if uses[name] == 0),
                epsilon=_attribute(node, "epsilon", _EPSILON),
                shape=(-1, *(1,) * (rank - 2)),
            )
        )
    del graph.node[:]
    graph.node.extend(nodes)
    return norms


def unfold_values_in_place(norms: Sequence[Norm], tensors: Tensors) -> None:
    """One task's side: scales and shifts, computed in float64 and rounded once, appear; what is freed leaves."""
    for norm in norms:
        gamma, beta, mean, variance = (tensors[name].astype(np.float64) for name in norm.norm)
        scale = gamma / np.sqrt(variance + norm.epsilon)
        tensors[norm.scale] = scale.astype(np.float32).reshape(norm.shape)
        tensors[norm.shift] = (beta - mean * scale).astype(np.float32).reshape(norm.shape)
    for norm in norms:
        for name in norm.freed:
            tensors.pop(name, None)


def _ranks(model: ModelProto) -> dict[str, int]:
    """How many dimensions each value of the graph has, as far as ONNX can tell."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = [value for value in (*graph.value_info, *graph.input, *graph.output) if _is_ranked(value)]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in known}


def _is_ranked(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _free_name(name: str, taken: set[str]) -> str:
    """``name``, or the first of ``name/2``, ``name/3`` ... that nothing is called yet."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}/{number}"
    taken.add(found)
    return found


def _attribute(node: NodeProto, name: str, default: float) -> float:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
