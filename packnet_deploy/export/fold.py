"""Folding BatchNormalization into the layer before it, exactly where that is allowed; float64, rounded once.

    gamma · (W x + b - mean) / sqrt(var + eps) + beta  =  (s W) x + (b - mean) s + beta,   s = gamma / sqrt(var + eps)

Allowed where (1) a Conv or Gemm feeds that normalisation and nothing else, (2) its weight and bias serve no other
node, and (3) all their values are given. A normalisation that fails one of these stays a node; DenseNet's, which
come before the convolution, do. Scaling whole output channels leaves zeros zero, so a fold commutes with masking.

This is for a task by itself. Where tasks share a bank, normalisation stays apart from the weights: norms.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto

Tensors = dict[str, npt.NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]
Factors = npt.NDArray[np.float64]  # one per output channel, shaped to broadcast over the weight

_EPSILON = 1e-5  # ONNX's default
_MAY_FOLD_INTO = ("Conv", "Gemm")


@dataclass(frozen=True)
class _Fold:
    """One normalisation that has left the graph, and the layer it went into."""

    node: str  # the normalisation's name
    weight: str
    bias: str  # the layer's own, or a new one
    gains_bias: bool
    norm: tuple[str, str, str, str]  # gamma, beta, mean, variance
    freed: tuple[str, ...]  # those of `norm` that nothing reads any more
    epsilon: float
    broadcast: tuple[int, ...]  # shape of one factor per output channel, e.g. (-1, 1, 1, 1)


def fold_normalisation_in_place(graph: GraphProto, tensors: Tensors) -> list[str]:
    """Fold what may be folded; ``graph``'s nodes and the arrays in ``tensors`` change.

    A weight keeps its name and its memory; a layer without bias gains ``<module>.bias``, where the weight is called
    ``<module>.weight``. The normalisation's tensors leave ``tensors``. ``graph.input`` is left as it is.

    Returns:
        The names of the folded normalisation nodes, in graph order.
    """
    folds = _fold_graph_in_place(graph, {name: array.shape for name, array in tensors.items()})
    for name, factors in _fold_biases_in_place(folds, tensors).items():
        # In float64, rounded once. The ufunc converts block by block: no float64 copy of the weight exists.
        np.multiply(tensors[name], factors, out=tensors[name], dtype=np.float64, casting="same_kind")
    return [fold.node for fold in folds]


def _fold_graph_in_place(graph: GraphProto, shapes: Shapes) -> list[_Fold]:
    """Take every normalisation that may be folded out of the graph.

    Args:
        shapes: of every tensor, by name.
    """
    known = dict(shapes)
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    producers = {name: node for node in graph.node for name in node.output}
    folds: list[_Fold] = []
    folded: list[NodeProto] = []
    for node in graph.node:
        layer = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if layer is None or not _may_fold(node, layer, uses, known):
            continue
        weight, gains_bias = layer.input[1], len(layer.input) < 3 or not layer.input[2]
        if gains_bias:
            layer.input[2:] = [_new_bias(weight)]
            known[layer.input[2]] = known[node.input[1]]
            uses[layer.input[2]] += 1
        layer.output[0] = node.output[0]
        producers[node.output[0]] = layer
        uses.subtract(node.input[1:])
        gamma, beta, mean, variance = node.input[1:5]
        outputs = 1 if layer.op_type == "Gemm" and not _attributes(layer).get("transB", 0) else 0
        folds.append(
            _Fold(
                node=node.name,
                weight=weight,
                bias=layer.input[2],
                gains_bias=gains_bias,
                norm=(gamma, beta, mean, variance),
                freed=tuple(name for name in dict.fromkeys(node.input[1:]) if uses[name] == 0),
                epsilon=_attributes(node).get("epsilon", _EPSILON),
                broadcast=tuple(-1 if axis == outputs else 1 for axis in range(len(known[weight]))),
            )
        )
        folded.append(node)
    for node in folded:
        graph.node.remove(node)
    return folds


def _fold_biases_in_place(folds: Sequence[_Fold], tensors: Tensors) -> dict[str, Factors]:
    """Biases change or appear in ``tensors``, freed normalisation leaves it.

    Returns:
        By weight name, the float64 factors that still have to go into that weight.
    """
    factors: dict[str, Factors] = {}
    for fold in folds:
        gamma, beta, mean, variance = (tensors[name].astype(np.float64) for name in fold.norm)
        scale = gamma / np.sqrt(variance + fold.epsilon)
        bias = np.zeros_like(scale) if fold.gains_bias else tensors[fold.bias].astype(np.float64)
        tensors[fold.bias] = ((bias - mean) * scale + beta).astype(np.float32)
        shaped = scale.reshape(fold.broadcast)
        factors[fold.weight] = factors[fold.weight] * shaped if fold.weight in factors else shaped
        for name in fold.freed:
            del tensors[name]
    return factors


def _may_fold(node: NodeProto, layer: NodeProto, uses: Mapping[str, int], known: Shapes) -> bool:
    attributes = _attributes(layer)
    plain = (
        attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
    )
    if layer.op_type not in _MAY_FOLD_INTO or not plain or uses[layer.output[0]] != 1:
        return False
    if len(node.output) != 1 or _attributes(node).get("training_mode", 0):
        return False
    own = [name for name in layer.input[1:] if name]
    if any(uses[name] != 1 for name in own) or any(name not in known for name in (*own, *node.input[1:])):
        return False
    if len(own) == 1:
        return _new_bias(own[0]) not in known
    return known[own[1]] == known[node.input[1]]  # Gemm broadcasts other shapes


def _new_bias(weight: str) -> str:
    return f"{weight.removesuffix('.weight')}.bias"


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
