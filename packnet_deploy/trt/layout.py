"""Where every weight that changes with the task lies in one flat buffer, and the arrays that fill it.

The banked weights come first, so that one launch masks them all; what each task brings whole follows, so that one copy
brings it. All are of one type. Positions and counts are in weights, not bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.export.deploy_bank import NO_RANK, DeployTask
from packnet_deploy.trt.bank import EngineBank, Weight

ALIGNMENT = 256  # bytes; what TensorRT asks of the addresses of inputs, and more than the kernels do

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Slot:
    """A weight's place."""

    weight: Weight
    start: int


@dataclass(frozen=True)
class Layout:
    """The places of all weights.

    Attributes:
        banked: how long the part with the bank is.
        count: how long all of it is.
        dtype: of every weight.
    """

    slots: tuple[Slot, ...]
    banked: int
    count: int
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def address(self, slot: Slot, base: int) -> int:
        return base + slot.start * self.dtype.itemsize


@dataclass(frozen=True)
class Scaling:
    """A weight whose task has normalisation of its own; how the kernel finds each weight's ratio.

    Attributes:
        start, count: where the weight lies.
        ratios: where its ratios lie among the task's.
        channels: how many there are.
        inner: consecutive weights that share one.
    """

    start: int
    count: int
    ratios: int
    channels: int
    inner: int


@dataclass(frozen=True)
class TaskArrays:
    """What a switch to one task copies.

    Attributes:
        own: typed, flat: the tensors that the task brings whole, as ``Layout`` has them from ``banked`` on.
        ratios: float32, flat.
    """

    index: int
    own: Array
    ratios: npt.NDArray[np.float32]
    scalings: tuple[Scaling, ...]


def layout_of(weights: Sequence[Weight], dtype: np.dtype[Any]) -> Layout:
    """Lay ``weights``, the banked ones first, in their order, each at a multiple of ``ALIGNMENT`` bytes."""
    slots = []
    end = banked = 0
    for weight in sorted(weights, key=lambda weight: not weight.banked):
        slots.append(Slot(weight, end))
        end += _aligned(weight.count, dtype)
        banked = end if weight.banked else banked
    return Layout(tuple(slots), banked, end, dtype)


def flat_bank(layout: Layout, bank: EngineBank) -> tuple[Array, npt.NDArray[np.uint8]]:
    """Values and ranks, ``layout.banked`` of each; the gaps between weights have no rank."""
    values, ranks = np.zeros(layout.banked, layout.dtype), np.full(layout.banked, NO_RANK, np.uint8)
    for slot in layout.slots:
        if slot.weight.banked:
            place = slice(slot.start, slot.start + slot.weight.count)
            values[place] = bank.values[slot.weight.name].reshape(-1)
            ranks[place] = bank.ranks[slot.weight.name].reshape(-1)
    return values, ranks


def task_arrays(layout: Layout, task: DeployTask) -> TaskArrays:
    """What ``task`` adds to its mask."""
    own = np.zeros(layout.count - layout.banked, layout.dtype)
    scalings: list[Scaling] = []
    ratios: list[npt.NDArray[np.float32]] = []
    for slot in layout.slots:
        name, start = slot.weight.name, slot.start
        if not slot.weight.banked:
            own[start - layout.banked :][: slot.weight.count] = task.tensors[name].reshape(-1)
        elif name in task.ratios:
            ratio = task.ratios[name]
            axis = int(np.argmax(ratio.shape))  # the only one that is not 1
            inner = int(np.prod(slot.weight.shape[axis + 1 :], dtype=np.int64))
            scalings.append(Scaling(start, slot.weight.count, sum(r.size for r in ratios), ratio.size, inner))
            ratios.append(ratio.reshape(-1))
    return TaskArrays(task.entry.index, own, np.concatenate([*ratios, np.empty(0, np.float32)]), tuple(scalings))


def _aligned(count: int, dtype: np.dtype[Any]) -> int:
    step = ALIGNMENT // dtype.itemsize
    return -(-count // step) * step
