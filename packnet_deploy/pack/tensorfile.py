"""Safetensors files: a canonical writer, and a strict reader by blocks.

The library's own writer orders ``__metadata__`` at random, so the same content gives other bytes in every process;
ours gives the same bytes always. Its reader takes headers that docs/format.md forbids and another reader takes
differently (a tensor or a key that stands twice, entries written as lists), so the header is read here, as JSON of
ours. The bytes of the tensors are read in pieces, so that a file larger than memory's share of it never has to be
mapped or held at once.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, reason
from packnet_deploy.pack.reading import MAX_DIMENSIONS, is_possible, is_printable, open_regular, parse_json

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U8": np.dtype("u1"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_WRITE_BYTES = 1 << 24
_MAX_HEADER_BYTES = 1 << 23
_LENGTH_BYTES = 8


def write_tensors(file: BinaryIO, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a canonical safetensors file: the same tensors and metadata give the same bytes.

    Header keys are sorted, the header is padded with spaces to a multiple of 8, and the data lies by falling
    item size, then name, so that every tensor is aligned to its item size.

    Raises:
        TypeError: a dtype other than float32, float16, bfloat16, uint8.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    end = 0
    for name in order:
        array = tensors[name]
        code = _CODES.get(array.dtype.newbyteorder("<") if array.dtype.kind == "f" else array.dtype)
        if code is None:
            raise TypeError(f"tensor {name!r}: dtype {array.dtype} cannot be stored")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        array = np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<"))
        flat = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
        for start in range(0, len(flat), _WRITE_BYTES):
            file.write(flat[start : start + _WRITE_BYTES].data)


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in a file; ``offset`` in bytes from the file's start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.itemsize


class TensorFile:
    """A safetensors file open for reading, by several threads at once if need be.

    Args:
        inside: from this folder on, no part of the way to ``path`` may be a link.

    Attributes:
        metadata: the header's ``__metadata__``.
        entries: where every tensor lies, in the order of their bytes.

    Raises:
        ArtefactError: the file is missing, truncated, malformed, or holds a name, dtype or shape that no delta has.
        EnvironmentFault: the system does not let us read it.
    """

    def __init__(self, path: Path, inside: Path | None = None) -> None:
        self.path = path
        self._file = open_regular(path, inside=inside)
        try:
            header, start = self._header()
            self.metadata = _metadata(header.pop("__metadata__", {}))
            self.entries = _placed([_described(name, entry) for name, entry in header.items()], start, self._file.size)
        except (ValueError, RecursionError) as error:
            self.close()
            raise ArtefactError(f"{path}: not a whole safetensors file ({reason(error)})") from error
        except BaseException:
            self.close()
            raise

    def _header(self) -> tuple[dict[str, Any], int]:
        """The header, and where the tensors begin."""
        length = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
        start = _LENGTH_BYTES + length
        if length > _MAX_HEADER_BYTES or start > self._file.size:
            raise ValueError(f"its header claims {length:,} bytes")
        text = self._file.read(length).decode("utf-8")
        if not text.startswith("{"):
            raise ValueError("its header does not begin with {")
        header: dict[str, Any] = parse_json(text)
        return header, start

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def read(self, name: str) -> npt.NDArray[Any]:
        """One whole tensor, in its stored dtype and shape."""
        entry = self.entries[name]
        return self.read_range(name, 0, entry.size).reshape(entry.shape)

    def read_range(self, name: str, start: int, count: int) -> npt.NDArray[Any]:
        """Elements ``start .. start + count`` of a tensor in C order, as a 1-D array of its stored dtype."""
        entry = self.entries[name]
        if not 0 <= start <= start + count <= entry.size:
            raise IndexError(f"{name!r}: elements {start}..{start + count} of {entry.size}")
        raw = np.empty(count * entry.dtype.itemsize, np.uint8)
        place = entry.offset + start * entry.dtype.itemsize
        view, filled = memoryview(raw.data), 0
        while filled < len(raw):
            got = self._file.readinto_at(view[filled:], place + filled)
            if not got:
                raise ArtefactError(f"{self.path}: the file ends inside tensor {name!r}")
            filled += got
        return raw.view(entry.dtype)


class _Described(NamedTuple):
    """A tensor as the header has it; its bytes are ``begin`` to ``end`` behind the header."""

    begin: int
    end: int
    name: str
    entry: TensorEntry


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("__metadata__: expected an object of texts")
    return value


def _described(name: str, value: Any) -> _Described:
    """One entry of the header.

    Raises:
        ValueError: it is malformed, or describes a tensor that no delta has.
    """
    where = f"tensor {reprlib.repr(name)}"
    if not is_printable(name):
        raise ValueError(f"{where}: its name has control characters")
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {reprlib.repr(value)}")
    code, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"{where}: dtype: expected one of {', '.join(DTYPES)}, got {reprlib.repr(code)}")
    sizes = _sizes(shape)
    if len(sizes) > MAX_DIMENSIONS or not is_possible(sizes):
        raise ValueError(f"{where}: no network has a shape like {reprlib.repr(shape)}")
    entry = TensorEntry(DTYPES[code], sizes, offset=0)
    begin, end = _sizes(offsets)
    if end - begin != entry.bytes:
        raise ValueError(f"{where}: offsets {begin}..{end} do not fit its {entry.bytes:,} bytes")
    return _Described(begin, end, name, entry)


def _sizes(value: Any) -> tuple[int, ...]:
    """A shape or offsets."""
    if not isinstance(value, list) or not all(type(size) is int and size >= 0 for size in value):
        raise ValueError(f"expected a list of sizes, got {reprlib.repr(value)}")
    return tuple(value)


def _placed(tensors: list[_Described], start: int, file_bytes: int) -> dict[str, TensorEntry]:
    """The entries by name, each with its place in the file.

    Raises:
        ValueError: they do not lie one behind the other, without a hole, up to the file's last byte.
    """
    entries, end = {}, 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != end:
            raise ValueError(f"tensor {reprlib.repr(tensor.name)}: a hole or an overlap before it")
        end = tensor.end
        entries[tensor.name] = replace(tensor.entry, offset=start + tensor.begin)
    if start + end != file_bytes:
        raise ValueError(f"its size: expected {start + end:,} bytes as the header says, got {file_bytes:,}")
    return entries
