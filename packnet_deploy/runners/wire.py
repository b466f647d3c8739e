"""Protobuf's wire format, as far as ONNX files need it: fields walked and written without a message in memory.

``skimmed`` is what an ONNX file says without the bytes of its large tensors, which may take gigabytes as a message.
Writing whole models out of such fields is the export's business (packnet_deploy/export/write.py). Encoding:
protobuf.dev/programming-guides/encoding; field numbers: onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Buffer = bytes | memoryview

# Field numbers of onnx.proto3.
MODEL_GRAPH = 7
GRAPH_INITIALISER = 5
GRAPH_SPARSE_INITIALISER = 15
SPARSE_VALUES, SPARSE_INDICES = 1, 2
TENSOR_RAW_DATA = 9

KEPT = 1024  # bytes of a tensor that ``skimmed`` leaves where they are: shapes, axes, scalars
MAX_SKIMMED = 1 << 24  # bytes
MAX_FIELDS = 1 << 17

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message."""

    number: int
    whole: memoryview  # as it stands in the message
    content: memoryview | None  # of a field with a length; None for others


def skimmed(model: Buffer) -> bytes:
    """A serialised ModelProto without the ``raw_data`` of initialisers that have more than ``KEPT`` bytes of it.

    Raises:
        ValueError: it is malformed, has more than ``MAX_FIELDS`` fields on the way to those tensors, or what is left
            takes more than ``MAX_SKIMMED`` bytes.
    """
    walked = 0
    taken = 0

    def counted(message: Buffer) -> Iterator[Field]:
        nonlocal walked
        for field in fields(message):
            walked += 1
            if walked > MAX_FIELDS:
                raise ValueError(f"expected at most {MAX_FIELDS:,} fields, got more")
            yield field

    def rewritten(message: Buffer, inside: dict[int, Callable[[Buffer], Sequence[Buffer]]]) -> list[Buffer]:
        nonlocal taken
        kept: list[Buffer] = []
        for number, whole, content in counted(message):
            if content is not None and number in inside:
                kept += length_delimited(number, inside[number](content))
                continue
            taken += len(whole)
            if taken > MAX_SKIMMED:
                raise ValueError(f"expected at most {MAX_SKIMMED:,} bytes beside the weights, got more")
            kept.append(whole)
        return kept

    def tensor(message: Buffer) -> list[Buffer]:
        large = any(f.number == TENSOR_RAW_DATA and len(f.content or b"") > KEPT for f in counted(message))
        return rewritten(message, {TENSOR_RAW_DATA: lambda _: ()}) if large else rewritten(message, {})

    def sparse(message: Buffer) -> list[Buffer]:
        return rewritten(message, {SPARSE_VALUES: tensor, SPARSE_INDICES: tensor})

    def graph(message: Buffer) -> list[Buffer]:
        return rewritten(message, {GRAPH_INITIALISER: tensor, GRAPH_SPARSE_INITIALISER: sparse})

    return b"".join(rewritten(model, {MODEL_GRAPH: graph}))


def fields(message: Buffer) -> Iterator[Field]:
    """The fields of a serialised message, in order.

    Raises:
        ValueError: it ends inside one, or holds a kind that protobuf no longer writes.
    """
    view = memoryview(message)
    begin = 0
    while begin < len(view):
        key, start = _read_varint(view, begin)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"no field has number {number}")
        if kind == _VARINT:
            _, end = _read_varint(view, start)
        elif kind == _LENGTH:
            size, start = _read_varint(view, start)
            end = start + size
        elif kind in (_FIXED32, _FIXED64):
            end = start + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"field {number} is of kind {kind}")
        if end > len(view):
            raise ValueError(f"it ends inside field {number}")
        yield Field(number, view[begin:end], view[start:end] if kind == _LENGTH else None)
        begin = end


def length_delimited(number: int, content: Sequence[Buffer]) -> list[Buffer]:
    """A field with a length before it (wire type 2)."""
    return [_varint(number << 3 | _LENGTH) + _varint(size_of(content)), *content]


def size_of(buffers: Sequence[Buffer]) -> int:
    return sum(len(buffer) for buffer in buffers)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    value = 0
    for place, byte in enumerate(view[at : at + 10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it ends inside a number")


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the top bit set on all but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
