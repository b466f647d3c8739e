"""Graphs that ask for more than an answer: other files, all the memory, all the time, a crash.

``graphs`` lists them by what they do. Each is the harmless graph of ``plain`` with one thing wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

Change = Callable[[ModelProto], None]

# Control flow, chance, sequences, text, sizes that depend on values, state.
FORBIDDEN = (
    *("If", "Loop", "Scan", "SequenceMap", "Optional", "SequenceConstruct", "SequenceInsert", "SplitToSequence"),
    *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"),
    *("StringNormalizer", "StringConcat", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"),
    *("NonZero", "Unique", "Compress", "NonMaxSuppression", "TopK"),
    *("LSTM", "GRU", "RNN", "Einsum", "Mod", "BitShift", "EyeLike", "CumSum", "LRN", "NoSuchOperator"),
)


def plain() -> ModelProto:
    """images -> pooled -> logits, two classes; and ``spare``, a constant that nothing reads."""
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> plain (float[n, 3, 8, 8] images) => (float[n, k] logits)'
        " { pooled = GlobalAveragePool(images) flat = Flatten(pooled) logits = Gemm<transB = 1>(flat, weight) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.float32), "weight"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4), np.float32), "spare"))
    return model


def changed(change: Change) -> ModelProto:
    model = plain()
    change(model)
    return model


def graphs() -> Iterator[tuple[str, ModelProto]]:
    for operator in FORBIDDEN:
        yield operator, changed(_adds(helper.make_node(operator, ["images"], ["x"])))
    for name, change in {**OPERATORS, **DATA, **SIZES, **NUMBERS}.items():
        yield name, changed(change)


def _adds(*nodes: NodeProto) -> Change:
    return lambda model: model.graph.node.extend(nodes)


def _gives(array: np.ndarray, name: str, *nodes: NodeProto) -> Change:
    def change(model: ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        model.graph.node.extend(nodes)

    return change


def _shaped(operator: str, shape: Sequence[int], source: str = "spare", **attributes: object) -> Change:
    """A node that makes ``source`` into something of ``shape``, or so many times larger."""
    given = np.array(shape, np.int64)
    inputs = ["shape"] if operator == "ConstantOfShape" else [source, "shape"]
    return _gives(given, "shape", helper.make_node(operator, inputs, ["x"], **attributes))


def _sets(field: str, value: object) -> Change:
    return lambda model: setattr(model.graph.initializer[1], field, value)


def _outside(tensor: TensorProto, location: str = "/etc/passwd", **place: object) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **place}.items():
        tensor.external_data.add(key=key, value=str(value))


def _constant_outside(model: ModelProto) -> None:
    value = numpy_helper.from_array(np.ones(4, np.float32), "v")
    _outside(value)
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=value))


def _sparse(model: ModelProto, dims: Sequence[int], outside: bool = False) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    if outside:
        _outside(values, length=4)
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "")
    model.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=dims))


def _subgraph(model: ModelProto) -> None:
    """A branch whose initialiser lies in another file, on an operator that takes no branch."""
    inner = helper.make_graph([], "inner", [], [], [numpy_helper.from_array(np.ones(4, np.float32), "v")])
    _outside(inner.initializer[0], "secret")
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner))


def _calls_itself(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("f", 1))
    for number in range(40):
        calls = [helper.make_node(f"f{number + 1}", [name], [f"{name}y"], domain="f") for name in "xx"]
        model.functions.append(helper.make_function("f", f"f{number}", ["x"], ["xy"], calls, model.opset_import))
    model.graph.node.append(helper.make_node("f0", ["images"], ["x"], domain="f"))


def _many(count: int) -> Change:
    return _adds(*(helper.make_node("Neg", [f"x{n}" if n else "images"], [f"x{n + 1}"]) for n in range(count)))


def _doubling(model: ModelProto) -> None:
    """Each concatenation twice as large as the one before it."""
    names = ["images", *(f"x{n}" for n in range(40))]
    for before, after in pairwise(names):
        model.graph.node.append(helper.make_node("Concat", [before, before], [after], axis=1))


def _many_large(model: ModelProto, source: str, count: int, elements: int) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([elements], np.int64), "shape"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    model.graph.node.append(helper.make_node("ReduceSum", [source], ["start"], keepdims=0))
    for number in range(count):
        model.graph.node.append(helper.make_node("Expand", ["start", "shape"], [f"x{number}"]))


def _convolution(weight: Sequence[int], **attributes: object) -> Change:
    """A convolution over the images by ``weight``, which is made in the graph."""
    shape = np.array(weight, np.int64)
    conv = helper.make_node("Conv", ["images", "kernel"], ["x"], **attributes)
    return _gives(shape, "shape", helper.make_node("ConstantOfShape", ["shape"], ["kernel"]), conv)


def _reference(model: ModelProto) -> None:
    model.graph.node[2].attribute.append(AttributeProto(name="alpha", ref_attr_name="a", type=AttributeProto.FLOAT))


def _typed(model: ModelProto, kind: onnx.TypeProto) -> None:
    model.graph.value_info.append(onnx.ValueInfoProto(name="pooled", type=kind))


def _nested(depth: int) -> onnx.TypeProto:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    for _ in range(depth):
        kind = helper.make_sequence_type_proto(kind)
    return kind


def _integers_divided(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([5], np.int32), "five"))
    zero = helper.make_node("Sub", ["five", "five"], ["zero"])
    model.graph.node.extend([zero, helper.make_node("Div", ["five", "zero"], ["x"])])


OPERATORS: dict[str, Change] = {
    "an operator of another domain": _adds(helper.make_node("Relu", ["images"], ["x"], domain="com.microsoft")),
    "ONNX's operator set twice": lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 13)),
    "an operator set that is not known": lambda m: setattr(m.opset_import[0], "version", 2**40),
    "an operator set of the past": lambda m: setattr(m.opset_import[0], "version", 1),
    "functions that call each other twice, 40 deep": _calls_itself,
    "training information": lambda m: m.training_info.add(),
    "a subgraph": _subgraph,
    "an attribute of a function's": _reference,
    "100,000 nodes": _many(100_000),
    "a node that reads what nothing gives": _adds(helper.make_node("Neg", ["nowhere"], ["x"])),
    "a node that reads itself": _adds(helper.make_node("Neg", ["x"], ["x"])),
    "two nodes that give the same": _adds(helper.make_node("Neg", ["images"], ["pooled"])),
    "a node without inputs": _adds(helper.make_node("Gemm", [], ["x"])),
    "an attribute that the operator does not have": _adds(helper.make_node("Neg", ["images"], ["x"], depth=3)),
    "a sequence": lambda m: _typed(m, _nested(1)),
    "sequences of sequences": lambda m: _typed(m, _nested(40)),
    "text": lambda m: _typed(m, helper.make_tensor_type_proto(TensorProto.STRING, [1])),
}
DATA: dict[str, Change] = {
    "an initialiser in another file": lambda m: _outside(m.graph.initializer[1]),
    "an initialiser in the folder above": lambda m: _outside(m.graph.initializer[1], "../secret"),
    "a constant in another file": _constant_outside,
    "a sparse initialiser in another file": lambda m: _sparse(m, [4], outside=True),
    "a sparse initialiser of 2^60": lambda m: _sparse(m, [2**30, 2**30]),
    "sparse initialisers of 2^30 in all": lambda m: [_sparse(m, [2**27]) for _ in range(8)] and None,
    "an initialiser larger than the file": lambda m: m.graph.initializer[1].dims.__setitem__(0, 2**26),
    "an initialiser of a negative size": lambda m: m.graph.initializer[1].dims.__setitem__(0, -4),
    "an initialiser of text": _sets("data_type", TensorProto.STRING),
    "an initialiser of no type": _sets("data_type", 99),
    "a part of an initialiser": lambda m: m.graph.initializer[1].segment.CopyFrom(TensorProto.Segment(begin=0, end=9)),
}
SIZES: dict[str, Change] = {
    "ConstantOfShape of 8e8": _shaped("ConstantOfShape", [800_000_000]),
    "Expand to 2^40": _shaped("Expand", [2**20, 2**16, 4, 4]),
    "Tile by 2^40": _shaped("Tile", [2**20, 2**20]),
    "Pad by 2^40": _shaped("Pad", [0, 2**40, 0, 0]),
    "Pad of the images": _shaped("Pad", [0, 0, 2**20, 2**20, 0, 0, 0, 0], "images"),
    "Range of 2^40": _gives(
        np.array(2**40, np.int64),
        "end",
        helper.make_node("Constant", [], ["begin"], value_int=0),
        helper.make_node("Constant", [], ["step"], value_int=1),
        helper.make_node("Range", ["begin", "end", "step"], ["x"]),
    ),
    "Resize by 100,000": _gives(
        np.array([1, 1, 1e5, 1e5], np.float32),
        "scales",
        helper.make_node("Resize", ["images", "", "scales"], ["x"]),
    ),
    "Concat of itself, 40 times": _doubling,
    "100 tensors of 2^28 from the images": lambda m: _many_large(m, "images", 100, 2**28),
    "100 tensors of 2^20 from no input": lambda m: _many_large(m, "spare", 100, 2**20),
    "a shape that depends on the images": _adds(
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["count", "axes"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["x"]),
    ),
    "a convolution of 2^20 pixels, padded": _convolution(
        [1, 3, 1024, 1024], pads=[8192, 8192, 8192, 8192], dilations=[1, 1]
    ),
    "an average over 10,000 x 10,000 pixels": _adds(
        helper.make_node("AveragePool", ["images"], ["x"], kernel_shape=[10_000, 10_000], pads=[9_999] * 4)
    ),
}
NUMBERS: dict[str, Change] = {
    "a convolution without steps": _convolution([1, 3, 1, 1], strides=[0, 0]),
    "a convolution of no groups": _convolution([1, 3, 1, 1], group=0),
    "a convolution of -1 groups": _convolution([1, 3, 1, 1], group=-1),
    "a convolution padded by 2^62": _convolution([1, 3, 1, 1], pads=[2**62, 0, 2**62, 0]),
    "blocks of no size": _adds(helper.make_node("DepthToSpace", ["images"], ["x"], blocksize=0)),
    "no groups of channels": _adds(
        helper.make_node("GroupNormalization", ["images", "spare", "spare"], ["x"], num_groups=0)
    ),
    "statistics of the batch": _adds(
        helper.make_node("BatchNormalization", ["images", *["spare"] * 4], ["x", "m", "v"], training_mode=1)
    ),
    "integers divided by 0": _integers_divided,
}
