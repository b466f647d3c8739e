"""The weights that change with the task, typed, in one buffer on the GPU that any task can be masked into.

The bank they are masked out of lies on the GPU too, or, where memory there is short, in page-locked host memory: then
every switch sends it through a small staging buffer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import UsageError
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.layout import Array, TaskArrays, flat_bank, layout_of, task_arrays

BANKS = ("device", "host")
CHUNK = 1 << 24  # weights in the staging buffer: copies so long that launches cost nothing beside them


class DeviceBank:
    """Values and ranks on the GPU: one launch masks everything."""

    def __init__(self, device: Device, values: Array, ranks: npt.NDArray[np.uint8]) -> None:
        self._device, self._count, self._itemsize = device, values.size, values.itemsize
        self._values, self._ranks = device.allocate(values.nbytes), device.allocate(ranks.nbytes)
        device.upload(self._values, values)
        device.upload(self._ranks, ranks)
        device.synchronise()  # the caller's arrays may go now

    def mask_into(self, out: int, task: int) -> None:
        self._device.mask(out, self._values, self._ranks, self._count, task, self._itemsize)


class HostBank:
    """Values and ranks in page-locked host memory: chunk by chunk they are copied, and masked on arrival."""

    def __init__(self, device: Device, values: Array, ranks: npt.NDArray[np.uint8]) -> None:
        self._device, self._itemsize = device, values.itemsize
        self._values = device.pinned(values.nbytes).view(values.dtype)
        self._ranks = device.pinned(ranks.nbytes)
        self._values[:], self._ranks[:] = values, ranks
        self._chunk = min(CHUNK, values.size)
        self._staged_values = device.allocate(self._chunk * values.itemsize)
        self._staged_ranks = device.allocate(self._chunk)

    def mask_into(self, out: int, task: int) -> None:
        # Copies and launches are on one stream, so that none of them touches the chunk before the last is done with it.
        for start in range(0, self._values.size, max(self._chunk, 1)):
            values = self._values[start : start + self._chunk]
            self._device.upload(self._staged_values, values)
            self._device.upload(self._staged_ranks, self._ranks[start : start + self._chunk])
            place = out + start * self._itemsize
            self._device.mask(place, self._staged_values, self._staged_ranks, values.size, task, self._itemsize)


class WeightBuffer:
    """All switched weights of one task at a time.

    Attributes:
        addresses: of each weight on the GPU, by name; they stay what they are.
    """

    def __init__(self, device: Device, bank: EngineBank, where: str) -> None:
        """Take the memory and bring the bank to its place; the buffer holds no task yet.

        Args:
            where: ``device`` or ``host``: the bank's place.

        Raises:
            UsageError: ``where`` is neither.
            EnvironmentFault: too little memory, or no NVRTC.
        """
        if where not in BANKS:
            raise UsageError(f"bank: expected one of {', '.join(BANKS)}, got {where!r}")
        self._device, self._precision = device, bank.precision.name
        self._layout = layout = layout_of(bank.weights, bank.precision.dtype)
        device.load_kernels()
        self._out = device.allocate(layout.bytes)
        self.addresses = {slot.weight.name: layout.address(slot, self._out) for slot in layout.slots}
        values, ranks = flat_bank(layout, bank)
        self._bank = DeviceBank(device, values, ranks) if where == "device" else HostBank(device, values, ranks)
        self._tasks = {task.entry.name: self._pinned(task_arrays(layout, task)) for task in bank.tasks}
        self._ratios = device.allocate(max(arrays.ratios.nbytes for arrays in self._tasks.values()))

    def fill(self, task: str) -> None:
        """Enqueue what makes the buffer hold ``task``'s weights, bit for bit those of ``EngineBank.materialise``."""
        arrays, itemsize = self._tasks[task], self._layout.dtype.itemsize
        self._bank.mask_into(self._out, arrays.index)
        self._device.upload(self._out + self._layout.banked * itemsize, arrays.own)
        self._device.upload(self._ratios, arrays.ratios)
        for part in arrays.scalings:
            weights, ratios = self._out + part.start * itemsize, self._ratios + part.ratios * 4
            self._device.scale(weights, ratios, part.count, part.inner, part.channels, self._precision)

    def _pinned(self, arrays: TaskArrays) -> TaskArrays:
        own = self._device.pinned(arrays.own.nbytes).view(arrays.own.dtype)
        ratios = self._device.pinned(arrays.ratios.nbytes).view(np.float32)
        own[:], ratios[:] = arrays.own, arrays.ratios
        return TaskArrays(arrays.index, own, ratios, arrays.scalings)
