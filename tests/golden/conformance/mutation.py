"""Seeded vandalism, made so that what is behind the first checks is reached: JSON that stays JSON, safetensors whose
offsets fit again.

Covers bytes, JSON texts and safetensors files, and nothing of what they mean; formats.py puts the results in place.
Every function takes a ``random.Random`` and gives the same bytes for the same state on every machine.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


class Raw(str):
    """JSON that is written as it is: numbers as they stood, and what no JSON writer would write."""


class Members(list[list[Any]]):
    """An object: ``[name, value]`` after ``[name, value]``, so that a name can stand there twice."""


Tree: TypeAlias = Any  # Members, list, str, Raw, bool, None
Place: TypeAlias = tuple[MutableSequence[Any], int]  # a container of the tree, and where in it

# Values at the edges of what some rule, type or parser takes.
ODD = tuple(
    Raw(text)
    for text in (
        *("0", "-0", "-1", "1", "2", "3", "4", "255", "256", "16384", "16385", "16777216", "1048577", "1e3"),
        *("1.0", "0.0", "-0.0", "0.1", "1e-46", "1e-320", "1e39", "3.4028235e38", "3.4028236e38", "1e308", "1e309"),
        *("1000000000000000", "1099511627776", "1099511627777", "9223372036854775807", "9223372036854775808"),
        *("18446744073709551616", "-9223372036854775809", "1" + "0" * 308, "9" * 309, "1e-400", "9" * 5000),
        *("true", "false", "null", "{}", "[]", '""', '"a"', '"\\u0061"', '"\\u0000"', '"a\\nb"', '"\\u2028"'),
        *('"\\u0085"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"é"', '"\ufffd"', '"\\/"', '"\\x"'),
        *('"F16"', '"BF16"', '"F64"', '"2:4"', '"fp16"', '"bind"', '"none"', '"selector"', '"pad"', '"NCHW"'),
        *('"' + "0" * 64 + '"', '"' + "A" * 64 + '"', '"' + "g" * 64 + '"', '"' + "x" * 65 + '"', '"../x"', '".x"'),
        *("[" * depth + "]" * depth for depth in (1, 55, 60, 61, 62, 63, 64, 65, 66, 500, 100_000)),
        *('{"a":1,"a":1}', '{"a":1,"\\u0061":2}', "[1,]", "NaN", "-Infinity", "01", "1.", "+1", ".5", "'a'", "", "1 2"),
        *("\ufeff1", "1\u00a0", "[1", '"a', "tru", "True", "// x", "1e+", "0x1", '"\t"', "\x00", "\x1f"),
    )
)


def parse(text: str) -> Tree:
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: Members([name, value] for name, value in pairs),
        parse_int=Raw,
        parse_float=Raw,
    )


def write(tree: Tree) -> str:
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Members):
        return "{" + ",".join(f"{_name(name)}:{write(value)}" for name, value in tree) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(write, tree)) + "]"
    return json.dumps(tree, ensure_ascii=False)


def _name(name: str) -> str:
    return str(name) if isinstance(name, Raw) else json.dumps(name, ensure_ascii=False)


def places(tree: Tree) -> list[Place]:
    """Where every value of a tree stands, the outermost one's aside."""
    found: list[Place] = []
    for index, item in enumerate(tree if isinstance(tree, list) else ()):
        holder: Place = (item, 1) if isinstance(tree, Members) else (tree, index)
        found += [holder, *places(holder[0][holder[1]])]
    return found


def mutated_text(text: str, rng: random.Random) -> bytes:
    """A JSON text with one to three things changed; now and then with some of its bytes changed as well."""
    tree = parse(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        with contextlib.suppress(IndexError):  # an edit that finds nothing of its kind
            rng.choice(EDITS)(tree, rng)
    data = write(tree).encode("utf-8", "surrogatepass")
    return mutated_bytes(data, rng) if rng.random() < 0.08 else data


def _replace(tree: Tree, rng: random.Random) -> None:
    container, index = rng.choice(places(tree))
    container[index] = rng.choice(ODD)


def _nudge(tree: Tree, rng: random.Random) -> None:
    """A number becomes another, or is written in another way."""
    numbers = [place for place in places(tree) if isinstance(place[0][place[1]], Raw)]
    container, index = rng.choice(numbers or places(tree))
    old = str(container[index])
    container[index] = Raw(rng.choice((f"{old}0", f"-{old}", f"{old}.0", f"{old}e0", f"0{old}", f"{old}1", "0", "1")))


def _respell(tree: Tree, rng: random.Random) -> None:
    """A text with one character changed, doubled, escaped, or in the other case."""
    texts = [p for p in places(tree) if isinstance(p[0][p[1]], str) and not isinstance(p[0][p[1]], Raw) and p[0][p[1]]]
    container, index = rng.choice(texts)
    old = container[index]
    at = rng.randrange(len(old))
    escaped = Raw(json.dumps(old[:at])[:-1] + f"\\u{ord(old[at]) & 0xFFFF:04x}" + json.dumps(old[at + 1 :])[1:])
    spelt = (
        old[:at] + old[at + 1 :],
        old[:at] + old[at] + old[at:],
        old.swapcase(),
        old + rng.choice("\0\n\x7f\u2029 "),
    )
    container[index] = rng.choice((*spelt, escaped))


def _containers(tree: Tree) -> list[Any]:
    """The objects and lists that have something in them."""
    inner = [container[index] for container, index in places(tree)]
    return [value for value in (tree, *inner) if isinstance(value, list) and value]


def _objects(tree: Tree) -> list[Members]:
    return [value for value in _containers(tree) if isinstance(value, Members)]


def _remove(tree: Tree, rng: random.Random) -> None:
    chosen = rng.choice(_containers(tree))
    del chosen[rng.randrange(len(chosen))]


def _repeat(tree: Tree, rng: random.Random) -> None:
    """A member twice, with the same value or another, perhaps its name escaped; or an item twice."""
    chosen = rng.choice(_objects(tree))
    name, value = rng.choice(chosen)
    spelt = Raw(json.dumps(name)[:-1].replace(name[:1], f"\\u{ord(name[0]):04x}", 1) + '"') if name else name
    chosen.insert(
        rng.randrange(len(chosen) + 1),
        [rng.choice((name, spelt)), rng.choice((copy.deepcopy(value), rng.choice(ODD)))],
    )


def _add(tree: Tree, rng: random.Random) -> None:
    """A field that no reader knows, or that another object has."""
    known = [member[0] for members in _objects(tree) for member in members]
    rng.choice(_objects(tree)).append([rng.choice(("later", "", rng.choice(known))), rng.choice(ODD)])


def _swap(tree: Tree, rng: random.Random) -> None:
    one, other = rng.choice(places(tree)), rng.choice(places(tree))
    first, second = copy.deepcopy(one[0][one[1]]), copy.deepcopy(other[0][other[1]])
    one[0][one[1]], other[0][other[1]] = second, first


def _repeat_item(tree: Tree, rng: random.Random) -> None:
    chosen = rng.choice([value for value in _containers(tree) if not isinstance(value, Members)])
    chosen.insert(rng.randrange(len(chosen) + 1), copy.deepcopy(rng.choice(chosen)))


def _reorder(tree: Tree, rng: random.Random) -> None:
    """What order an object's members have means nothing, what order a list's items have does."""
    rng.shuffle(rng.choice(_containers(tree)))


def _flatten(tree: Tree, rng: random.Random) -> None:
    """An object written as the list of its values, a list as an object."""
    container, index = rng.choice([place for place in places(tree) if isinstance(place[0][place[1]], list)])
    old = container[index]
    is_object = isinstance(old, Members)
    container[index] = [value for _, value in old] if is_object else Members([str(i), v] for i, v in enumerate(old))


EDITS: tuple[Callable[[Tree, random.Random], None], ...] = (
    *(_replace, _replace, _replace, _nudge, _nudge, _respell, _respell),
    *(_remove, _repeat, _repeat_item, _add, _swap, _reorder, _flatten),
)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """One edit of the bytes: changed, cut out, doubled, cut off, followed by more."""
    place = rng.randrange(len(data) or 1)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + data[place + rng.randrange(20) :]
    if kind == 2:
        return data[:place] + data[place : place + rng.randrange(40)] + data[place:]
    return data[:place] if kind == 3 else data + rng.choice((b" ", b"\n", b"\0", b"x", b"{}"))


@dataclass
class Tensors:
    """A safetensors file taken apart, to be changed and put together again with offsets that fit.

    Attributes:
        tensors: ``[name, dtype, shape, data]`` each, in the order of their data; a name may stand there twice.
        metadata: ``[key, text]`` each.
    """

    tensors: list[list[Any]] = field(default_factory=list)
    metadata: list[list[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> Tensors:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        metadata = [list(item) for item in header.pop("__metadata__").items()]
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        found = []
        for name, entry in entries:
            begin, end = entry["data_offsets"]
            found.append([name, entry["dtype"], entry["shape"], data[start + begin : start + end]])
        return cls(found, metadata)

    def header(self) -> Members:
        tree, end = Members([["__metadata__", Members(self.metadata)]]), 0
        for name, dtype, shape, data in self.tensors:
            offsets = [Raw(end), Raw(end + len(data))]
            sizes = [Raw(size) for size in shape]
            tree.append([name, Members([["dtype", dtype], ["shape", sizes], ["data_offsets", offsets]])])
            end += len(data)
        return tree

    def bytes(self, header: bytes | None = None) -> bytes:
        text = write(self.header()).encode("utf-8", "surrogatepass") if header is None else header
        return len(text).to_bytes(8, "little") + text + b"".join(tensor[3] for tensor in self.tensors)


ITEM = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "F64": 8}


def mutated_tensors(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with its header, its metadata, its tensors or its bytes changed."""
    file = Tensors.of(data)
    kind = rng.random()
    if kind < 0.3:
        return file.bytes(mutated_text(write(file.header()), rng))
    if kind < 0.36:
        return mutated_bytes(data, rng)
    if kind < 0.6:
        _mutate_metadata(file, rng)
    else:
        for _ in range(rng.choice((1, 1, 2))):
            with contextlib.suppress(IndexError):
                rng.choice(TENSOR_EDITS)(file, rng)
    return file.bytes()


def _mutate_metadata(file: Tensors, rng: random.Random) -> None:
    chosen = rng.choice(file.metadata)
    if chosen[1][:1] in ("{", "[") and rng.random() < 0.8:
        chosen[1] = mutated_text(chosen[1], rng).decode("utf-8", "replace")
        return
    tree = Members(file.metadata)
    with contextlib.suppress(IndexError):
        rng.choice((_replace, _respell, _remove, _repeat, _add, _swap))(tree, rng)
    file.metadata = list(tree)


def _edit_shape(file: Tensors, rng: random.Random) -> None:
    """Another shape for the same bytes, or other bytes to go with it."""
    tensor = rng.choice(file.tensors)
    items = len(tensor[3]) // ITEM[tensor[1]]
    more = [*tensor[2], 1] if tensor[2] else [1]
    tensor[2] = rng.choice(([items], [1, items], [items, 1], [], more, [*more, 0], [items + 1], [1] * 9, [0, 1 << 40]))
    if rng.random() < 0.5:
        size = 1
        for length in tensor[2]:
            size *= length
        tensor[3] = (tensor[3] * 3)[: size * ITEM[tensor[1]]]


def _edit_dtype(file: Tensors, rng: random.Random) -> None:
    """Another type, of as many items."""
    tensor = rng.choice(file.tensors)
    items = len(tensor[3]) // ITEM[tensor[1]]
    tensor[1] = rng.choice(tuple(ITEM))
    tensor[3] = (tensor[3] * 8)[: items * ITEM[tensor[1]]]


def _edit_data(file: Tensors, rng: random.Random) -> None:
    """Some of the bytes; nothing tells whether they are right where they are values."""
    tensor = rng.choice([tensor for tensor in file.tensors if tensor[3]])
    data = bytearray(tensor[3])
    for _ in range(rng.choice((1, 2, len(data)))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    tensor[3] = bytes(data)


def _move_a_bit(file: Tensors, rng: random.Random) -> None:
    """A mask that marks as many weights as before, but others: well-formed."""
    mask = rng.choice([tensor for tensor in file.tensors if tensor[0].startswith("mask/") and tensor[3]])
    bits = int.from_bytes(mask[3], "little")
    ones = [i for i in range(8 * len(mask[3])) if bits >> i & 1]
    zeros = [i for i in range(8 * len(mask[3])) if not bits >> i & 1]
    bits ^= 1 << rng.choice(ones) | 1 << rng.choice(zeros)
    mask[3] = bits.to_bytes(len(mask[3]), "little")


def _rename(file: Tensors, rng: random.Random) -> None:
    tensor, other = rng.choice(file.tensors), rng.choice(file.tensors)
    group, _, rest = other[0].partition("/")
    tensor[0] = rng.choice(
        (other[0], f"own/{rest}", f"shared/{rest}", f"mask/{rest}", f"{group}/", "x", "own/é", "own/a\n")
    )


def _drop(file: Tensors, rng: random.Random) -> None:
    del file.tensors[rng.randrange(len(file.tensors))]


def _double(file: Tensors, rng: random.Random) -> None:
    """A tensor twice: which of the two would count?"""
    tensor = list(rng.choice(file.tensors))
    tensor[3] = bytes(reversed(tensor[3])) if rng.random() < 0.5 else tensor[3]
    file.tensors.insert(rng.randrange(len(file.tensors) + 1), tensor)


def _rearrange(file: Tensors, rng: random.Random) -> None:
    """The same tensors in another order: well-formed."""
    rng.shuffle(file.tensors)


TENSOR_EDITS: tuple[Callable[[Tensors, random.Random], None], ...] = (
    *(_edit_shape, _edit_dtype, _edit_data, _edit_data, _move_a_bit, _move_a_bit),
    *(_rename, _drop, _double, _rearrange),
)
