"""What a graph may hold before it reaches ONNX Runtime or TensorRT: docs/format.md, "What a graph may hold".

One list for every graph, a pack's own and those of exports: what deterministic classifiers compute with, nothing that
opens other files, runs for as long as a number in the file says, draws random numbers or calls itself. How large the
tensors get that such a graph computes is ``sizes``' business.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from packnet_deploy.runners.sizes import FLOATS, OWN, Cost, check_sizes

OPSETS = range(13, 26)
MAX_NODES = 20_000

_OPERATORS = """
layers      Conv ConvTranspose Gemm MatMul
            BatchNormalization GroupNormalization InstanceNormalization LayerNormalization
pooling     AveragePool GlobalAveragePool GlobalMaxPool MaxPool ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum
activations Celu Clip Elu Erf Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish PRelu Relu Selu Sigmoid Softmax
            Softplus Softsign Tanh ThresholdedRelu
arithmetic  Abs Add Ceil Cos Div Exp Floor Log Max Mean Min Mul Neg Pow Reciprocal Round Sign Sin Sqrt Sub Sum
comparison  And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Where
shapes      Concat DepthToSpace Expand Flatten Gather Identity Pad Reshape Resize Shape Slice SpaceToDepth Split
            Squeeze Tile Transpose Unsqueeze
types       Cast CastLike Constant ConstantOfShape DequantizeLinear QuantizeLinear Range
"""
OPERATORS = frozenset(word for word in _OPERATORS.split() if word[0].isupper())
INTEGERS = frozenset(
    {
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)
TYPES = FLOATS | INTEGERS | {TensorProto.BOOL}
ATTRIBUTES = frozenset(
    {
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
    }
)
POSITIVE = frozenset(
    {"blocksize", "dilations", "group", "kernel_shape", "num_groups", "num_outputs", "size", "strides"}
)
ZERO = frozenset({"training_mode"})
LARGEST = 1 << 14  # of an attribute, whatever it counts
VALUES = frozenset({"value_int", "value_ints"})  # but for these: "to the end" is the largest number there is
PLACE = {"location", "offset", "length"}  # what an initialiser in another file says of itself


def check_graph(model: ModelProto, size: int, *, data_beside: bool) -> Cost:
    """Hold a model against the list; its large tensors' bytes need not be there (``wire.skimmed``).

    Args:
        size: bytes of the file, which its initialisers have to come out of.
        data_beside: its initialisers may lie in files beside it (where these are is ``exported``'s business).

    Returns:
        What it takes for one image.

    Raises:
        ValueError: something in it is not on the list; says what, in one line, with no control characters.
    """
    for problem in _problems(model, data_beside):
        raise ValueError(problem)
    return check_sizes(model, size)


def _problems(model: ModelProto, data_beside: bool) -> Iterator[str]:
    graph = model.graph
    opsets = [entry.version for entry in model.opset_import if entry.domain in OWN]
    if len(opsets) != 1 or opsets[0] not in OPSETS:
        yield f"expected ONNX's own operator set, {OPSETS[0]} to {OPSETS[-1]}, once, got {opsets[:3]}"
    if model.functions or model.training_info:
        yield "expected a graph alone, got functions or training information beside it"
    if len(graph.node) > MAX_NODES:
        yield f"expected at most {MAX_NODES:,} nodes, got {len(graph.node):,}"
    for node in graph.node:
        yield from _node_problems(node)
    for tensor in graph.initializer:
        yield from _tensor_problems(tensor, f"initialiser {tensor.name!r}", data_beside)
    for sparse in graph.sparse_initializer:
        for part in (sparse.values, sparse.indices):
            yield from _tensor_problems(part, f"sparse initialiser {sparse.values.name!r}", data_beside=False)
    for value in (*graph.input, *graph.value_info, *(value for value in graph.output if value.HasField("type"))):
        yield from _value_problems(value)


def _node_problems(node: NodeProto) -> Iterator[str]:
    name = f"node {node.name!r}"
    if node.domain not in OWN or node.op_type not in OPERATORS:
        operator = f"{node.domain}.{node.op_type}".removeprefix(".")
        yield f"{name}: operator {operator!r} is not among those a graph may hold"
    for attribute in node.attribute:
        what = f"{name}: attribute {attribute.name!r}"
        if attribute.type not in ATTRIBUTES or attribute.ref_attr_name:
            yield f"{what}: expected numbers, text or a tensor, got a graph, a type or a reference"
        numbers = (attribute.i, *attribute.ints)
        if attribute.name not in VALUES and any(abs(number) > LARGEST for number in numbers):
            yield f"{what}: expected at most {LARGEST:,}, got more"
        given = attribute.ints if attribute.type == AttributeProto.INTS else (attribute.i,)
        if attribute.name in POSITIVE and min(given, default=1) < 1:
            yield f"{what}: expected at least 1, got {min(given)}"
        if attribute.name in ZERO and attribute.i:
            yield f"{what}: expected 0, got {attribute.i}"
        if attribute.type == AttributeProto.TENSOR:
            yield from _tensor_problems(attribute.t, what, data_beside=False)


def _tensor_problems(tensor: TensorProto, what: str, data_beside: bool) -> Iterator[str]:
    if tensor.data_type not in TYPES:
        yield f"{what}: expected numbers, got data type {tensor.data_type}"
    if tensor.HasField("segment") or any(size < 0 for size in tensor.dims):
        yield f"{what}: expected a whole tensor, got a segment or a negative size"
    elsewhere = tensor.data_location == TensorProto.EXTERNAL or bool(tensor.external_data)
    if not elsewhere:
        return
    if not data_beside:
        yield f"{what}: expected its data in the graph, got external data"
    if tensor.data_location != TensorProto.EXTERNAL or tensor.raw_data:
        yield f"{what}: expected its data in the graph or outside it, got both"
    keys = [entry.key for entry in tensor.external_data]
    if len(set(keys)) != len(keys) or "location" not in keys or not PLACE.issuperset(keys):
        yield f"{what}: expected location, offset and length of its data, got {keys[:5]!r}"


def _value_problems(value: ValueInfoProto) -> Iterator[str]:
    if not value.type.HasField("tensor_type") or value.type.tensor_type.elem_type not in TYPES:
        yield f"{value.name!r}: expected a tensor of numbers, got another type"
    if any(size.dim_value < 0 for size in value.type.tensor_type.shape.dim):
        yield f"{value.name!r}: expected sizes, got a negative one"
