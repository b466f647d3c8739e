"""Where every weight that changes with the task lies in one flat buffer, and the arrays that fill it.

The banked weights come first, so that one launch switches them all; what each task brings whole follows, so that one
copy brings it. All are of one type. Positions and counts are in weights, not bytes. An engine may read filters with
their channels last; then they lie so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.export.deploy_bank import NO_RANK, DeployTask
from packnet_deploy.trt.bank import EngineBank, Weight

FILTER = 4  # sizes of a convolution's weight: filters, channels, height, width
ALIGNMENT = 256  # bytes; what TensorRT asks of the addresses of inputs, and more than the kernels do

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Slot:
    """A weight's place.

    Attributes:
        channels_last: ``[k, c, h, w]`` lies there as ``[k, h, w, c]``.
    """

    weight: Weight
    start: int
    channels_last: bool = False

    def lay_out(self, array: Array) -> Array:
        """The weight, or its ranks, flat, as it lies there."""
        return (np.moveaxis(array, 1, -1) if self.channels_last else array).reshape(-1)


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

    def room(self, slot: Slot) -> int:
        """How many weights its place takes, the gap behind it included."""
        return _aligned(slot.weight.count, self.dtype)


def layout_of(weights: Sequence[Weight], dtype: np.dtype[Any], channels_last: Collection[str] = ()) -> Layout:
    """Lay ``weights``, the banked ones first, in their order, each at a multiple of ``ALIGNMENT`` bytes.

    Args:
        channels_last: the names of filters that an engine reads so.
    """
    slots = []
    end = banked = 0
    for weight in sorted(weights, key=lambda weight: not weight.banked):
        slots.append(Slot(weight, end, weight.name in channels_last))
        end += _aligned(weight.count, dtype)
        banked = end if weight.banked else banked
    return Layout(tuple(slots), banked, end, dtype)


def flat_bank(layout: Layout, bank: EngineBank) -> tuple[Array, npt.NDArray[np.uint8]]:
    """Values and ranks, ``layout.banked`` of each; the gaps between weights have no rank."""
    values, ranks = np.zeros(layout.banked, layout.dtype), np.full(layout.banked, NO_RANK, np.uint8)
    for slot in layout.slots:
        if slot.weight.banked:
            place = slice(slot.start, slot.start + slot.weight.count)
            values[place] = slot.lay_out(bank.values[slot.weight.name])
            ranks[place] = slot.lay_out(bank.ranks[slot.weight.name])
    return values, ranks


def own_weights(layout: Layout, task: DeployTask) -> Array:
    """What ``task`` brings whole: typed, flat, as the layout has it from ``banked`` on."""
    own = np.zeros(layout.count - layout.banked, layout.dtype)
    for slot in layout.slots:
        if not slot.weight.banked:
            own[slot.start - layout.banked :][: slot.weight.count] = slot.lay_out(task.tensors[slot.weight.name])
    return own


def _aligned(count: int, dtype: np.dtype[Any]) -> int:
    step = ALIGNMENT // dtype.itemsize
    return -(-count // step) * step
