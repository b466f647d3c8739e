"""Reading one packable parameter out of a chain of deltas, block by block, straight into the output.

For every block of weights the positions still free are kept as an index array; each delta's mask bits pick from
it, in order. Blocks are small enough that the indices stay in the processor's cache, which is what makes this
several times faster than whole-array masks: see docs/benchmarks.md.
The slow version is reference.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack.bits import unpack_bits
from packnet_deploy.pack.manifest import ParamSpec
from packnet_deploy.pack.owners import OwnerMap
from packnet_deploy.pack.tensorfile import TensorFile

BLOCK = 1 << 16  # weights; 64-bit indices of one block take 512 KiB


class _Stream:
    """One delta's mask bits and values for one parameter, handed out in order."""

    def __init__(self, file: TensorFile, param: str) -> None:
        self._file, self._mask, self._values = file, f"mask/{param}", f"values/{param}"
        self._has_mask = self._mask in file.entries
        self._bit = self._value = 0

    def take(self, free: int) -> tuple[npt.NDArray[np.intp] | None, npt.NDArray[Any]]:
        """Which of the next ``free`` free weights the task owns (None: all), and their values."""
        owned = None
        if self._has_mask:
            first, shift = divmod(self._bit, 8)
            packed = self._file.read_range(self._mask, first, (shift + free + 7) // 8)
            owned = np.flatnonzero(unpack_bits(packed, shift, free))
            self._bit += free
        count = free if owned is None else len(owned)
        left = self._file.entries[self._values].size - self._value
        if count > left:
            raise ArtefactError(f"{self._file.path}: {self._mask} marks more weights than {self._values} has values")
        values = self._file.read_range(self._values, self._value, count)
        self._value += count
        return owned, values


def decode_param(
    param: ParamSpec,
    deltas: Sequence[TensorFile],
    values_out: npt.NDArray[np.float32],
    owner_out: OwnerMap | None = None,
) -> None:
    """Fill ``values_out`` with the weights owned by the tasks of ``deltas`` (1, 2, …), 0 elsewhere.

    Args:
        param: the parameter; both outputs have its shape and are C-contiguous.
        deltas: checked delta files of tasks 1..k.
        owner_out: if given, filled with the owner map.

    Raises:
        ArtefactError: a mask and its values disagree in number.
    """
    values_flat = values_out.reshape(-1)
    owner_flat = None if owner_out is None else owner_out.reshape(-1)
    streams = [_Stream(file, param.name) for file in deltas]
    for start in range(0, param.size, BLOCK):
        values = values_flat[start : start + BLOCK]
        owner = None if owner_flat is None else owner_flat[start : start + BLOCK]
        values.fill(0)
        if owner is not None:
            owner.fill(0)
        free: npt.NDArray[np.intp] | None = None  # None: the whole block
        for task, stream in enumerate(streams, start=1):
            count = len(values) if free is None else len(free)
            picked, new = stream.take(count)
            if picked is None:
                positions: Any = slice(None) if free is None else free
                free = np.empty(0, np.intp)
            else:
                positions = picked if free is None else free[picked]
                rest = np.ones(count, np.bool_)
                rest[picked] = False
                free = np.flatnonzero(rest) if free is None else free[rest]
            values[positions] = new
            if owner is not None:
                owner[positions] = task
