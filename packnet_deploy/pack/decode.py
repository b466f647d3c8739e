"""Reading one packable parameter out of a chain of deltas, block by block, straight into the output.

A task's mask speaks of the weights that are still free when it comes, so a block is gone through twice: forwards, to
count what each task leaves to the next, and backwards, where each task's owner map is the next one's with its own
weights put between. That is a byte for every weight still free before each task, in order, and no list of positions:
the work for all tasks together is what their masks are long. Blocks are small enough to stay in the processor's
cache. See docs/benchmarks.md; the slow version is reference.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack.encode import unpack_bits
from packnet_deploy.pack.manifest import ParamSpec
from packnet_deploy.pack.owners import FREE, OwnerMap
from packnet_deploy.pack.tensorfile import TensorFile

BLOCK = 1 << 17  # weights
AT_ONCE = 1 << 16  # bytes; a tensor no larger is read whole, since a chain may have hundreds of them
FEW_TAKEN = 0.12  # the share of marks below which copying the runs between them is faster than copying by position
FEW_TASKS = 16  # up to so many, a comparison for each task is faster than sorting a block by owner


class _Tensor:
    """A tensor of a delta, of which consecutive elements are asked for."""

    def __init__(self, file: TensorFile, name: str) -> None:
        self.size = file.entries[name].size
        self._file, self._name = file, name
        self._whole = file.read(name) if file.entries[name].bytes <= AT_ONCE else None

    def __getitem__(self, place: slice) -> npt.NDArray[Any]:
        if self._whole is not None:
            return self._whole[place]
        return self._file.read_range(self._name, place.start, place.stop - place.start)


class _Stream:
    """One delta's mask bits and values for one parameter, handed out in order."""

    def __init__(self, file: TensorFile, param: str) -> None:
        self._file, self._param = file, param
        self._mask = _Tensor(file, f"mask/{param}") if f"mask/{param}" in file.entries else None
        self._values = _Tensor(file, f"values/{param}")
        self._bit = self._value = 0

    def left(self, free: int) -> npt.NDArray[np.bool_]:
        """Which of the next ``free`` free weights the task leaves to later ones: bool ``[free]``."""
        if self._mask is None:
            return np.zeros(free, np.bool_)
        first, shift = divmod(self._bit, 8)
        self._bit += free
        return unpack_bits(~self._mask[first : first + (shift + free + 7) // 8], shift, free)

    def values(self, count: int) -> npt.NDArray[np.float32]:
        """The next ``count`` values, widened."""
        start = self._value
        self._value += count
        if self._value > self._values.size:
            raise ArtefactError(
                f"{self._file.path}: mask/{self._param} marks more weights than values/{self._param} has values"
            )
        return self._values[start : self._value].astype(np.float32, copy=False)


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
        values.fill(0)
        left = _left_by_each(streams, len(values))
        owner = _owners(left, len(values))
        if owner_flat is not None:
            owner_flat[start : start + BLOCK] = owner
        taken = [stream.values(int(np.count_nonzero(~mask))) for stream, mask in zip(streams, left, strict=False)]
        if taken:
            values[_owned(owner, len(taken))] = np.concatenate(taken)


def claim_in_place(param: ParamSpec, delta: TensorFile, owner: OwnerMap, task: int) -> None:
    """Let ``task`` have the free weights that its ``delta`` marks: what one more delta does to an owner map."""
    flat = owner.reshape(-1)
    free = np.flatnonzero(flat == FREE)
    flat[free[~_Stream(delta, param.name).left(len(free))]] = task


def _left_by_each(streams: Sequence[_Stream], size: int) -> list[npt.NDArray[np.bool_]]:
    """For each task, which of the weights that are free before it stay so; as far as any are."""
    left: list[npt.NDArray[np.bool_]] = []
    free = size
    for stream in streams:
        if not free:
            break
        left.append(stream.left(free))
        free = int(np.count_nonzero(left[-1]))
    return left


def _owners(left: Sequence[npt.NDArray[np.bool_]], size: int) -> OwnerMap:
    """The owner map of a block of ``size`` weights."""
    owner = np.full(np.count_nonzero(left[-1]) if left else size, FREE, np.uint8)
    for task in range(len(left), 0, -1):
        stays, later = left[task - 1], owner
        owner = np.full(len(stays), task, np.uint8)
        if len(stays) - len(later) < FEW_TAKEN * len(stays):
            owner[stays] = later
        else:
            owner[np.flatnonzero(stays)] = later
    return owner


def _owned(owner: OwnerMap, tasks: int) -> npt.NDArray[np.intp]:
    """Where the owned weights of a block lie: task after task, each task's in order."""
    if tasks <= FEW_TASKS:
        return np.concatenate([np.flatnonzero(owner == task) for task in range(1, tasks + 1)])
    return np.argsort(owner, kind="stable")[np.count_nonzero(owner == FREE) :]
