"""Reduced precision, written into the graph: weights and activations in one type, float32 at both ends.

What an engine does inside one operator is its own business (tensor cores add up in float32). Strongly typed engines,
as TensorRT builds them, take their precision from here; ONNX Runtime's CPU has no bfloat16 and few float16 kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from packnet_deploy.errors import UsageError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Precision:
    """One of the types a model can be written in.

    ``tolerance`` is the largest difference of logits, as a share of their scale, that its rounding explains: four to
    five times the worst that was measured, on networks of 18 to 121 layers with random weights (docs/exports.md).
    """

    name: str
    dtype: np.dtype[Any]
    data_type: int  # in ONNX's numbering
    largest: float
    opset: int  # the first whose convolutions take it
    tolerance: float


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", np.dtype(np.float32), TensorProto.FLOAT, 3.403e38, 1, 1e-4),
        Precision("fp16", np.dtype(np.float16), TensorProto.FLOAT16, 65504, 1, 1e-2),
        Precision("bf16", np.dtype(ml_dtypes.bfloat16), TensorProto.BFLOAT16, 3.390e38, 22, 5e-2),
    )
}


def typed_tensors(tensors: Mapping[str, Array], precision: Precision) -> dict[str, Array]:
    """Every float32 array in the precision's type, rounded to nearest; others, and all in fp32, as they are.

    Raises:
        UsageError: a finite value is too large for the type; names the tensor.
    """
    return {
        name: _typed(name, array, precision) if array.dtype == np.float32 else array for name, array in tensors.items()
    }


def _typed(name: str, array: Array, precision: Precision) -> Array:
    if precision.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):
        typed = array.astype(precision.dtype)
    if not np.array_equal(np.isfinite(typed), np.isfinite(array)):
        largest = np.max(np.abs(array), where=np.isfinite(array), initial=0)
        others = ", ".join(other for other in ("bf16", "fp32") if other != precision.name)
        raise UsageError(
            f"tensor '{name}': its value {largest:.4g} does not fit {precision.name}, whose largest is "
            f"{precision.largest:.4g}; use --precision {others}"
        )
    return typed


def type_graph_in_place(model: ModelProto, precision: Precision) -> None:
    """Give a float32 graph the precision's type: its constants, its casts, and a cast behind each input and output.

    The tensors that are to become initialisers are ``typed_tensors``' business.
    """
    if precision.dtype == np.float32:
        return
    graph = model.graph
    for tensor in graph.initializer:
        _type_constant_in_place(tensor, precision)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = precision.data_type
            elif attribute.HasField("t"):
                _type_constant_in_place(attribute.t, precision)
    del graph.value_info[:]
    _cast_ends_in_place(graph, precision)


def _type_constant_in_place(tensor: TensorProto, precision: Precision) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        array = _typed(tensor.name or "a constant of the graph", numpy_helper.to_array(tensor), precision)
        tensor.CopyFrom(
            TensorProto(
                name=tensor.name,
                dims=tensor.dims,
                data_type=precision.data_type,
                raw_data=np.ascontiguousarray(array).tobytes(),
            )
        )


def _cast_ends_in_place(graph: GraphProto, precision: Precision) -> None:
    ends = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    inner = {name: f"{name}/{precision.name}" for name in (*ends, graph.output[0].name)}
    for node in graph.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    for name in reversed(ends):
        graph.node.insert(0, _cast(name, inner[name], precision.data_type))
    for value in graph.output:
        graph.node.append(_cast(inner[value.name], value.name, TensorProto.FLOAT))


def _cast(source: str, target: str, data_type: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], f"cast {target}", to=data_type)
