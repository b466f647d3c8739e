"""A bank in its place, and buffers on the GPU that any of its tasks can be written into.

Where the parts lie is placement.py's; what a switch reads and writes of them, difference.py's. Here they get memory and
addresses, and the launches and copies are enqueued.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.device import Device, Owners
from packnet_deploy.trt.difference import TILE, difference, order_by_owner
from packnet_deploy.trt.layout import flat_bank, layout_of, own_weights
from packnet_deploy.trt.placement import Placement

NOTHING = 0  # the task that a buffer of zeros holds


class PlacedBank:
    """An ordered bank and what each task brings whole, on the GPU or in page-locked memory that the GPU reads.

    Attributes:
        layout: of the buffers that it fills.
    """

    def __init__(
        self, device: Device, bank: EngineBank, placement: Placement, channels_last: Collection[str] = ()
    ) -> None:
        """Take the memory, which ``device`` gives back; the parts are there when this returns.

        Args:
            channels_last: the names of filters that the engine reads so.

        Raises:
            EnvironmentFault: too little memory.
        """
        self.layout = layout_of(bank.weights, bank.precision.dtype, channels_last)
        ordered = order_by_owner(*flat_bank(self.layout, bank), len(bank.tasks))
        self._tiles = ordered.tiles
        self._values = _put(device, ordered.values, placement.values)
        self._masks = _put(device, ordered.masks, placement.positions)
        self._before = _put(device, ordered.before, on_gpu=True)
        own = [own_weights(self.layout, task) for task in bank.tasks]
        self._own = [_put(device, array, placement.own) for array in own]
        device.synchronise()  # the arrays may go now

    def switch(
        self, device: Device, out: int, source: int, target: int, first: int = 0, last: int | None = None
    ) -> None:
        """Enqueue what makes the banked weights at ``out`` those of task ``target``, by the difference.

        Args:
            source: the task that they are now; ``NOTHING`` for zeros.
            first, last: the part of the buffer that lies at ``out``; all of the bank's where it is not said.
        """
        between = difference(source, target)
        last = self.layout.banked if last is None else last
        count = between.last - between.first
        if not count or first == last:
            return
        masks = self._masks + between.first * self._tiles * (TILE // 8)
        before = self._before + between.first * (self._tiles + 1) * 4
        owners = Owners(masks, before, self._tiles, count, first, last, self.layout.dtype.itemsize)
        if between.up:
            device.write_owners(out, self._values, owners)
        else:
            device.clear_owners(out, owners)

    def bring_own(self, device: Device, out: int, task: int, first: int, count: int) -> None:
        """Enqueue a copy to ``out`` of ``count`` weights that ``task`` brings whole, from position ``first`` on."""
        itemsize = self.layout.dtype.itemsize
        device.copy(out, self._own[task - 1] + (first - self.layout.banked) * itemsize, count * itemsize)


class WeightBuffer:
    """All weights that change with the task, of one task at a time, at addresses that stay what they are.

    Attributes:
        addresses: of each weight on the GPU, by name.
    """

    def __init__(self, device: Device, bank: PlacedBank) -> None:
        """Take the memory; the buffer holds no task yet.

        Raises:
            EnvironmentFault: too little memory.
        """
        self._device, self._bank = device, bank
        layout = bank.layout
        self._out = device.allocate(layout.bytes)
        self._task: int | None = None  # that it holds; None for nobody knows what
        self.addresses = {slot.weight.name: layout.address(slot, self._out) for slot in layout.slots}

    def fill(self, task: int) -> None:
        """Enqueue what makes the buffer hold ``task``'s weights, bit for bit those of ``EngineBank.materialise``."""
        layout, source = self._bank.layout, self._task
        if source is None:
            self._device.clear(self._out, layout.banked * layout.dtype.itemsize)
            source = NOTHING
        self._task = None
        self._bank.switch(self._device, self._out, source, task)
        own = self._out + layout.banked * layout.dtype.itemsize
        self._bank.bring_own(self._device, own, task, layout.banked, layout.count - layout.banked)
        self._task = task

    def forget(self) -> None:
        """What was enqueued may not have been done: the next task is written from scratch."""
        self._task = None


def _put(device: Device, array: npt.NDArray[Any], on_gpu: bool) -> int:
    """The address, for the GPU, of a copy of the array; it lies there once the device has been synchronised."""
    if on_gpu:
        address = device.allocate(array.nbytes)
        device.upload(address, array)
        return address
    memory = device.pinned(array.nbytes)
    memory[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return device.address_of(memory)
