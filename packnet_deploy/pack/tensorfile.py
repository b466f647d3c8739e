"""Safetensors files: a canonical writer, and a reader by blocks.

The library's own writer orders ``__metadata__`` at random, so the same content gives other bytes in every process;
ours gives the same bytes always. Reading leaves header parsing and bounds to the library, which was built for
hostile files; only the bytes of the tensors are read here, in pieces, so that a file larger than memory's share
of it never has to be mapped or held at once.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, reason
from packnet_deploy.pack.reading import is_possible, is_printable, open_regular

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U8": np.dtype("u1"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_WRITE_BYTES = 1 << 24


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

    Raises:
        ArtefactError: the file is missing, truncated, malformed, or holds a name, dtype or shape that no delta has.
        EnvironmentFault: the system does not let us read it.
    """

    def __init__(self, path: Path, inside: Path | None = None) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        self.entries: dict[str, TensorEntry] = {}
        self._file = open_regular(path, inside=inside)
        try:
            with safe_open(path, framework="numpy") as header:
                self.metadata: dict[str, str] = dict(header.metadata() or {})
                described = [(name, header.get_slice(name)) for name in header.offset_keys()]
                shapes = [(name, s.get_dtype(), tuple(s.get_shape())) for name, s in described]
            self._place(shapes)
        except (SafetensorError, OSError, ValueError) as error:
            self.close()
            raise ArtefactError(f"{path}: not a whole safetensors file ({reason(error)})") from error
        except ArtefactError:
            self.close()
            raise

    def _place(self, shapes: Iterable[tuple[str, str, tuple[int, ...]]]) -> None:
        """Find every tensor's bytes; they follow each other without holes: the library has checked that."""
        offset = 8 + int.from_bytes(self._file.read(8), "little")
        for name, code, shape in shapes:
            if not is_printable(name):
                raise ArtefactError(f"{self.path}: tensor {reprlib.repr(name)}: its name has control characters")
            if code not in DTYPES:
                raise ArtefactError(
                    f"{self.path}: tensor {name!r} has dtype {code}, expected one of {', '.join(DTYPES)}"
                )
            if not is_possible(shape):
                raise ArtefactError(f"{self.path}: tensor {name!r}: no network has a shape like {reprlib.repr(shape)}")
            entry = self.entries[name] = TensorEntry(DTYPES[code], shape, offset)
            offset += entry.bytes
        if offset != os.fstat(self._file.fileno()).st_size:
            raise ArtefactError(f"{self.path}: not a whole safetensors file (its size is not what the header says)")

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
            got = os.preadv(self._file.fileno(), [view[filled:]], place + filled)
            if not got:
                raise ArtefactError(f"{self.path}: the file ends inside tensor {name!r}")
            filled += got
        return raw.view(entry.dtype)
