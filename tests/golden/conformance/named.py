"""Cases that stand for a rule of docs/format.md or docs/engines.md each, with the verdict that it asks for.

JSON formats: the value at a path ("tasks/1/index") becomes another, written as it is; None removes it, and a name that
is not there is added. Deltas: a function changes the file taken apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from formats import FORMATS
from mutation import Members, Raw, Tensors, Tree, parse, write

Change = Callable[[Tensors], object]


@dataclass(frozen=True)
class Named:
    """One file and what every reader must say to it."""

    format: str
    name: str
    original: str
    content: bytes
    accepted: bool


ACCEPTED, REFUSED = True, False
HUGE, DEEP = "1" + "0" * 308, "[" * 62 + "]" * 62

PACK = (
    ("a field that is unknown", "later", '{"format": 1}', ACCEPTED),
    ("a field of a task that is unknown", "tasks/0/later", "null", ACCEPTED),
    ("the largest number", "later", HUGE, ACCEPTED),
    ("an integer beyond double", "later", "9" * 309, REFUSED),
    ("a number beyond double", "later", "1e309", REFUSED),
    ("a number too small for double", "later", "1e-400", ACCEPTED),
    ("63 levels", "later", DEEP, ACCEPTED),
    ("64 levels", "later", f"[{DEEP}]", ACCEPTED),
    ("65 levels", "later", f"[[{DEEP}]]", REFUSED),
    ("nearly as many commas as there may be", "later", f"[{'0,' * (2**18 - 2000)}0]", ACCEPTED),
    ("more commas than there may be", "later", f"[{'0,' * 2**18}0]", REFUSED),
    ("more commas than there may be, in a text", "later", f'"{"," * (2**18 + 1)}"', REFUSED),
    ("a lone surrogate where nobody looks", "later", '"\\ud800"', REFUSED),
    ("a pair of surrogates", "later", '"\\ud83d\\ude00"', ACCEPTED),
    ("surrogates the wrong way round", "later", '"\\ude00\\ud83d"', REFUSED),
    ("a lone surrogate as a name", "later", '{"\\udfff": 1}', REFUSED),
    ("a name twice", "later", '{"a": 1, "a": 1}', REFUSED),
    ("a name twice, once escaped", "later", '{"a": 1, "\\u0061": 1}', REFUSED),
    ("NaN", "later", "NaN", REFUSED),
    ("a comma too many", "later", "[1,]", REFUSED),
    ("a zero byte in a text", "later", '"\\u0000"', ACCEPTED),
    ("a version that is a float", "version", "1.0", REFUSED),
    ("a version that is true", "version", "true", REFUSED),
    ("a hash in capitals", "graph/sha256", '"' + "A" * 64 + '"', REFUSED),
    ("an escaped character that means itself", "backbone/arch", '"c\\u0075stom"', ACCEPTED),
    ("an arch of two lines", "backbone/arch", '"a\\nb"', REFUSED),
    ("a task of 10^15 classes", "tasks/0/classes", "1000000000000000", REFUSED),
    ("a task of another number of classes", "tasks/0/classes", "4", REFUSED),
    ("a task of another size", "tasks/0/bytes", "1", REFUSED),
    ("an index as a float", "tasks/0/index", "1.0", REFUSED),
    ("tasks as an object", "tasks", "{}", REFUSED),
    ("a mean that is a whole number", "input/mean/0", "0", REFUSED),  # well-formed, but not the deltas' input
    ("a mean beyond float32", "input/mean/0", "1e39", REFUSED),
    ("a fill that is true", "input/fill", "true", REFUSED),
    ("no framing, which is crop", "input/framing", None, ACCEPTED),
    ("no pattern", "packable/0/pattern", '""', ACCEPTED),
    ("a pattern that is null", "packable/0/pattern", "null", REFUSED),
    ("a pattern that the shape cannot keep", "packable/0/pattern", '"2:4"', REFUSED),
)

SIDECAR = (
    ("a field that is unknown", "later", "1", REFUSED),
    ("a field of a norm that is unknown", "norms/0/later", "1", REFUSED),
    ("a field of the input that is unknown", "input/later", "1", ACCEPTED),
    ("no GPU said", "gpu", None, REFUSED),
    ("a GPU without its memory", "gpu", '{"name": "x", "compute_capability": "8.6", "driver": "13.0"}', REFUSED),
    ("a hash that is none, of the graph", "onnx_sha256", '"x"', REFUSED),
    ("a hash that is none, of a task", "tasks/0/sha256", '"' + "g" * 64 + '"', REFUSED),
    ("10^15 classes", "classes", "1000000000000000", REFUSED),
    ("the most classes", "classes", "16777216", ACCEPTED),
    ("a batch beyond the most", "batch/most", "1048577", REFUSED),
    ("a layer of no weight", "sparsity/0/name", '"conv9.weight"', REFUSED),
    ("a layer of a weight that is not banked", "weights/0/banked", "false", REFUSED),
    ("a layer less than there are banked weights", "sparsity/0", None, REFUSED),
    ("a promise that is a number", "sparsity/0/promised", "1", REFUSED),
    ("a layer that was picked", "sparsity/0/picked", "true", ACCEPTED),
    ("an epsilon of none", "norms/0/epsilon", "0", ACCEPTED),
    ("an epsilon below zero", "norms/0/epsilon", "-1e-9", REFUSED),
    ("an epsilon beyond double", "norms/0/epsilon", "1e999", REFUSED),
    ("two axes of channels", "norms/0/shape/1", "-1", REFUSED),
    ("an empty text", "tensorrt", '""', REFUSED),
    ("another flavour", "flavour", '"onnx"', REFUSED),
    ("a version that is true", "version", "true", REFUSED),
    ("a task's name that is a path", "tasks/0/name", '"../x"', REFUSED),
    ("a weight without sizes", "weights/0/shape", "[]", REFUSED),
    ("a weight that no memory holds", "weights/0/shape", "[1099511627777]", REFUSED),
    ("more weights than there are, together", "weights/0/shape", "[1099511627776]", REFUSED),
    ("a plan of 2^41 bytes", "plan_bytes", "2199023255552", REFUSED),
)


def _values_twice(file: Tensors) -> None:
    name, dtype, shape, data = next(tensor for tensor in file.tensors if tensor[0] == "values/conv1.weight")
    file.tensors.append([name, dtype, shape, bytes(len(data))])


def _metadata(key: str, text: str) -> Change:
    def change(file: Tensors) -> None:
        file.metadata = [[k, text if k == key else v] for k, v in file.metadata]

    return change


def _objects(count: int) -> str:
    return f'{{"a": [{",".join(["{}"] * count)}]}}'


def _entries_as_lists(tree: Members) -> Tree:
    return Members([n, v if n == "__metadata__" else [member[1] for member in v]] for n, v in tree)


def _unknown_in_entries(tree: Members) -> Tree:
    return Members([n, v if n == "__metadata__" else Members([*v, ["later", Raw("1")]])] for n, v in tree)


DELTA: tuple[tuple[str, Change, bool], ...] = (
    ("values twice", _values_twice, REFUSED),
    ("a key of the metadata twice", lambda file: file.metadata.append(["task", "flowers"]), REFUSED),
    ("another key of the metadata", lambda file: file.metadata.append(["later", "\0"]), ACCEPTED),
    ("tensors in another order", lambda file: file.tensors.reverse(), ACCEPTED),
    ("classes as an object", _metadata("classes", "{}"), REFUSED),
    ("a class that is a lone surrogate", _metadata("classes", '["a", "b", "c", "d", "\\ud800"]'), REFUSED),
    ("a class without a name", _metadata("classes", '["a", "b", "c", "d", ""]'), ACCEPTED),
    ("a report with a number beyond double", _metadata("report", '{"loss": 1e999}'), REFUSED),
    ("a report with a name twice", _metadata("report", '{"a": 1, "a": 2}'), REFUSED),
    ("a report of 64 levels", _metadata("report", '{"a": [' + DEEP + "]}"), ACCEPTED),
    ("a report of 65 levels", _metadata("report", '{"a": [[' + DEEP + "]]}"), REFUSED),
    ("a report of nearly as many objects as there may be", _metadata("report", _objects(2**17 - 1000)), ACCEPTED),
    ("a report of more objects than there may be", _metadata("report", _objects(2**17)), REFUSED),
    ("an index with a zero", _metadata("index", "03"), REFUSED),
    ("a frozen hash that is none", _metadata("frozen_sha256", "x" * 64), REFUSED),
)
HEADER = (
    ("entries written as lists", lambda tree: write(_entries_as_lists(tree)), REFUSED),
    ("a field of an entry that is unknown", lambda tree: write(_unknown_in_entries(tree)), ACCEPTED),
    ("a space before the header", lambda tree: " " + write(tree), REFUSED),
    ("spaces behind the header", lambda tree: write(tree) + " " * 5, ACCEPTED),
    ("a zero byte behind the header", lambda tree: write(tree) + "\0", REFUSED),
    ("metadata that is null", lambda tree: write(Members([["__metadata__", None], *tree[1:]])), REFUSED),
)


def _changed(text: str, path: str, value: str | None) -> bytes:
    tree = parse(text)
    *way, last = path.split("/")
    holder = tree
    for step in way:
        holder = next(v for n, v in holder if n == step) if isinstance(holder, Members) else holder[int(step)]
    if isinstance(holder, Members):
        at = next((i for i, member in enumerate(holder) if member[0] == last), len(holder))
        holder[at : at + 1] = [] if value is None else [[last, Raw(value)]]
    else:
        holder[int(last) : int(last) + 1] = [] if value is None else [Raw(value)]
    return write(tree).encode()


def named_cases() -> list[Named]:
    originals = {item.name: item.originals for item in FORMATS}
    pack, sidecar, delta = "of 3 tasks", "refit.plan.json", "deltas/0003-flowers.safetensors"
    cases = []
    for name, path, value, accepted in PACK:
        cases.append(Named("pack", name, pack, _changed(originals["pack"][pack].decode(), path, value), accepted))
    for name, path, value, accepted in SIDECAR:
        content = _changed(originals["sidecar"][sidecar].decode(), path, value)
        cases.append(Named("sidecar", name, sidecar, content, accepted))
    for name, change, accepted in DELTA:
        file = Tensors.of(originals["delta"][delta])
        change(file)
        cases.append(Named("delta", name, delta, file.bytes(), accepted))
    for name, rewritten, accepted in HEADER:
        file = Tensors.of(originals["delta"][delta])
        cases.append(Named("delta", name, delta, file.bytes(rewritten(file.header()).encode()), accepted))
    return cases
