"""How large a graph's tensors get and how much it computes, for one image, told by shape inference before it runs.

A number in a file can stand for gigabytes (``Expand``, ``Tile``, ``Pad``) or for hours (a kernel of 10,000 x 10,000),
or end the process: integers divided by 0.
Everything is counted in elements and in multiply-adds; caps are docs/format.md's, "What a graph may hold".
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from packnet_deploy.errors import reason

MAX_TENSOR = 1 << 28  # elements of one tensor, computed or given
MAX_SPARSE = 1 << 29  # elements of all sparse initialisers, zeros included
MAX_COMPUTED = 1 << 32  # elements of all that is computed for an image
MAX_WORK = 1 << 40  # multiply-adds for an image
MAX_FIXED = 1 << 24  # elements computed from no input at all, beyond FIXED_PER_WEIGHT for each of an initialiser's
FIXED_PER_WEIGHT = 8  # a mask, its numbers, their product and what rounding adds to it
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
OWN = ("", "ai.onnx")  # the names of ONNX's own operators' domain
OPEN_SIDE = 224  # what an image's height and width are taken for where the graph leaves them open

Shapes = dict[str, tuple[int, ...]]


class Cost(NamedTuple):
    """What a graph takes for one image."""

    elements: int  # of all that is given and computed
    work: int  # multiply-adds


def check_sizes(model: ModelProto, size: int) -> Cost:
    """Infer every shape for one image, and hold it against the caps.

    Args:
        model: one of allowed operators; large tensors' bytes need not be there.
        size: bytes of the file, which its initialisers have to come out of.

    Raises:
        ValueError: it is not valid, a shape does not fit or cannot be told, or a cap is exceeded; names the tensor.
    """
    given, types = _given(model.graph)
    shapes, types = _inferred(model, given, types)
    inside = sum(prod(t.dims) for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL)
    _expect_at_most(inside, size, "elements of initialisers in the file")
    _expect_at_most(sum(prod(s.dims) for s in model.graph.sparse_initializer), MAX_SPARSE, "elements given as sparse")
    initialised = _initialised(model.graph)
    varying = {value.name for value in model.graph.input} - initialised
    weights = sum(prod(given[name]) for name in initialised)
    computed, fixed, work = 0, 0, 0
    for name, shape in given.items():
        _expect_at_most(prod(shape), MAX_TENSOR, f"tensor {name!r}, elements")
    for node in model.graph.node:
        outputs = [name for name in node.output if name]
        if node.op_type == "Div" and types.get(node.output[0]) not in FLOATS:
            raise ValueError(f"node {node.name!r}: expected a division of floating-point numbers, got integers")
        elements = 0
        for name in outputs:
            if name not in shapes:
                raise ValueError(f"node {node.name!r}: the size of its output {name!r} cannot be told before it runs")
            elements += prod(shapes[name])
            _expect_at_most(prod(shapes[name]), MAX_TENSOR, f"tensor {name!r}, elements")
        computed += elements
        if varying.isdisjoint(node.input):
            fixed += elements
        else:
            varying.update(outputs)
        work += _work(node, shapes)
    _expect_at_most(computed, MAX_COMPUTED, "elements computed for an image")
    _expect_at_most(fixed, MAX_FIXED + FIXED_PER_WEIGHT * weights, "elements computed from no input")
    _expect_at_most(work, MAX_WORK, "multiply-adds for an image")
    return Cost(sum(map(prod, given.values())) + computed, work)


def _expect_at_most(got: int, most: int, what: str) -> None:
    if got > most:
        raise ValueError(f"{what}: expected at most {most:,}, got {got:,}")


def _initialised(graph: GraphProto) -> set[str]:
    return {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}


def _given(graph: GraphProto) -> tuple[Shapes, dict[str, int]]:
    """Shape and type of every input and initialiser; one image, one class where the graph leaves that open."""
    shapes: Shapes = {}
    types: dict[str, int] = {}
    for value in graph.input:
        declared = value.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else 0 for size in declared.shape.dim]
        open_side = [1, 1, OPEN_SIDE, OPEN_SIDE] if len(sizes) == 4 else [1] * len(sizes)
        shapes[value.name] = tuple(size or side for size, side in zip(sizes, open_side, strict=True))
        types[value.name] = declared.elem_type
    for tensor in graph.initializer:
        shapes[tensor.name], types[tensor.name] = tuple(tensor.dims), tensor.data_type
    for sparse in graph.sparse_initializer:
        shapes[sparse.values.name], types[sparse.values.name] = tuple(sparse.dims), sparse.values.data_type
    return shapes, types


def _inferred(model: ModelProto, given: Shapes, types: Mapping[str, int]) -> tuple[Shapes, dict[str, int]]:
    """Shapes, where all sizes are known, and types: what was given, and of what the nodes compute."""
    opset = [entry for entry in model.opset_import if entry.domain in OWN]
    alone = ModelProto(ir_version=model.ir_version, opset_import=opset)
    alone.graph.name = "sizes"
    alone.graph.node.extend(model.graph.node)
    told = [tensor for tensor in model.graph.initializer if _is_told(tensor)]
    alone.graph.initializer.extend(told)
    known = {tensor.name for tensor in told}
    for name, shape in given.items():
        if name not in known:
            alone.graph.input.append(onnx.helper.make_tensor_value_info(name, types[name], shape))
    ends = [value for value in model.graph.output if value.HasField("type")]
    alone.graph.output.extend(ValueInfoProto(name=value.name, type=_untold(value)) for value in ends)
    try:
        onnx.checker.check_model(alone)
        inferred = onnx.shape_inference.infer_shapes(alone, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception as error:  # ValidationError, InferenceError, or what protobuf raises
        raise ValueError(f"not a valid graph ({reason(error)})") from error
    shapes, all_types = dict(given), dict(types)
    for value in (*inferred.value_info, *inferred.output):
        declared = value.type.tensor_type
        all_types[value.name] = declared.elem_type
        if declared.HasField("shape") and all(size.HasField("dim_value") for size in declared.shape.dim):
            shapes[value.name] = tuple(size.dim_value for size in declared.shape.dim)
    return shapes, all_types


def _is_told(tensor: TensorProto) -> bool:
    """Whether its values are here, as small ones' are: shapes are computed from them. They are not in a skimmed one."""
    values = (tensor.raw_data, tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.uint64_data)
    return tensor.data_location != TensorProto.EXTERNAL and (0 in tensor.dims or any(map(len, values)))


def _untold(value: ValueInfoProto) -> onnx.TypeProto:
    """The type of an output without its sizes, which are to be inferred, not believed."""
    declared = value.type.tensor_type
    return onnx.helper.make_tensor_type_proto(declared.elem_type, [None] * len(declared.shape.dim))


def _work(node: NodeProto, shapes: Shapes) -> int:
    """Multiply-adds of one node, or the elements it reads, where these are more."""
    inputs = [shapes.get(name, ()) for name in node.input]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    out = sum(prod(shapes[name]) for name in node.output if name)
    read = sum(map(prod, inputs))
    if node.op_type == "Conv":
        return max(read, out * prod(inputs[1][1:]))
    if node.op_type == "ConvTranspose":
        return max(read, prod(inputs[0]) * prod(inputs[1][1:]))
    if node.op_type in ("Gemm", "MatMul"):
        return max(read, out * inputs[0][0 if attributes.get("transA") else -1])
    if node.op_type in ("AveragePool", "MaxPool"):
        return max(read, out * prod(map(int, attributes["kernel_shape"])))
    return max(read, out)
