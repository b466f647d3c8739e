"""Folding BatchNormalization into the layer before it, exactly where that is allowed; float64, rounded once.

    gamma · (W x + b - mean) / sqrt(var + eps) + beta  =  (s W) x + (b - mean) s + beta,   s = gamma / sqrt(var + eps)

Allowed where (1) a Conv or Gemm feeds that normalisation and nothing else, (2) its weight and bias serve no other
node, and (3) all their values are given. A normalisation that fails one of these stays a node; DenseNet's, which
come before the convolution, do. Scaling whole output channels leaves zeros zero, so a fold commutes with masking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto

Tensors = dict[str, npt.NDArray[np.float32]]

_EPSILON = 1e-5  # ONNX's default
_MAY_FOLD_INTO = ("Conv", "Gemm")


def fold_normalisation_in_place(graph: GraphProto, tensors: Tensors) -> list[str]:
    """Fold what may be folded; ``graph``'s nodes and the arrays in ``tensors`` change.

    A weight keeps its name and its memory; a layer without bias gains ``<module>.bias``, where the weight is called
    ``<module>.weight``. The normalisation's tensors leave ``tensors``. ``graph.input`` is left as it is.

    Returns:
        The names of the folded normalisation nodes, in graph order.
    """
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    producers = {name: node for node in graph.node for name in node.output}
    folded: list[NodeProto] = []
    for node in graph.node:
        layer = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if layer is None or not _may_fold(node, layer, uses, tensors):
            continue
        _fold(node, layer, tensors)
        folded.append(node)
        producers[node.output[0]] = layer
        for name in node.input[1:]:
            uses[name] -= 1
            if uses[name] == 0:
                del tensors[name]
    names = [node.name for node in folded]
    for node in folded:
        graph.node.remove(node)
    return names


def _may_fold(
    node: NodeProto, layer: NodeProto, uses: Mapping[str, int], tensors: Mapping[str, npt.NDArray[np.float32]]
) -> bool:
    attributes = _attributes(layer)
    plain = (
        attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
    )
    if layer.op_type not in _MAY_FOLD_INTO or not plain or uses[layer.output[0]] != 1:
        return False
    if len(node.output) != 1 or _attributes(node).get("training_mode", 0):
        return False
    own = [name for name in layer.input[1:] if name]
    if any(uses[name] != 1 for name in own) or any(name not in tensors for name in (*own, *node.input[1:])):
        return False
    if len(own) == 1:
        return _new_bias(own[0]) not in tensors
    return tensors[own[1]].shape == tensors[node.input[1]].shape  # Gemm broadcasts other shapes


def _fold(node: NodeProto, layer: NodeProto, tensors: Tensors) -> None:
    """``node`` scales and shifts what ``layer`` gives; afterwards ``layer`` gives ``node``'s output."""
    gamma, beta, mean, variance = (tensors[name].astype(np.float64) for name in node.input[1:5])
    scale = gamma / np.sqrt(variance + _attributes(node).get("epsilon", _EPSILON))
    weight = tensors[layer.input[1]]
    outputs = 1 if layer.op_type == "Gemm" and not _attributes(layer).get("transB", 0) else 0
    per_output = np.expand_dims(scale, [axis for axis in range(weight.ndim) if axis != outputs])
    # The ufunc converts block by block, so no float64 copy of the weight ever exists.
    np.multiply(weight, per_output, out=weight, dtype=np.float64, casting="same_kind")
    if len(layer.input) > 2 and layer.input[2]:
        name, bias = layer.input[2], tensors[layer.input[2]].astype(np.float64)
    else:
        name, bias = _new_bias(layer.input[1]), np.zeros_like(scale)
        layer.input[2:] = [name]
    tensors[name] = ((bias - mean) * scale + beta).astype(np.float32)
    layer.output[0] = node.output[0]


def _new_bias(weight: str) -> str:
    return f"{weight.removesuffix('.weight')}.bias"


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
