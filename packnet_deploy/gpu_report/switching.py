"""The switching kernels on a GPU: are they right, and how fast from the GPU's memory and from the host's?"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.export.deploy_bank import NO_RANK
from packnet_deploy.export.precision import PRECISIONS, Precision
from packnet_deploy.gpu_report.section import Cell, Section
from packnet_deploy.gpu_report.sheet import Sheet
from packnet_deploy.trt.device import Device, Owners
from packnet_deploy.trt.difference import order_by_owner, switch_in_place, traffic
from packnet_deploy.trt.gpu import answer, expect_gpu

COUNT = 1 << 26  # weights; twice the memory of any GPU's cache, even in half precision
LAUNCHES = 20  # enqueued at once, so that starting them costs nothing beside them
REPEATS = 7
COLUMNS = ("precision", "bank", "equal to numpy", "one task up, GB/s", "one task down, GB/s", "copy, GB/s", "ratio")


def switching(folder: Path, sheet: Sheet) -> Section:
    """The section of the report."""
    device = Device(expect_gpu("switching weights"))
    try:
        device.load_kernels()
        rows = tuple(
            sheet.row((kind.name, where), COLUMNS, partial(measure_switch, device, kind, where, copy, COUNT))
            for kind in PRECISIONS.values()
            for where, copy in (("device", device_copy), ("host", host_copy))
        )
    finally:
        device.close()
    ratios = [cells[-1] for cells in rows if isinstance(cells[-1], float)]
    reached = f"{min(ratios):.0%} of a copy's bandwidth at least" if ratios else ""
    return Section(
        "Switching kernels",
        "Are they right, and how close does the way up come to the bandwidth of a copy from where the bank lies, by "
        f"the bytes that it reads there and writes? {COUNT:,} weights of three tasks, a quarter of them free.",
        COLUMNS,
        rows,
        reached,
    )


def measure_switch(
    device: Any,
    precision: Precision,
    where: str,
    copy: Callable[[Any, int, int, int], None],
    count: int,
) -> tuple[Cell, ...]:
    """Switch a random bank of three tasks up from the first to the second and back; a row without its labels.

    Args:
        device: ``Device``, kernels loaded.
        where: the bank's place, ``device`` or ``host``.
        copy: enqueues a copy from that place to the GPU: device, to, from, bytes.
    """
    size = precision.dtype.itemsize
    rng = np.random.default_rng(0)
    values = rng.standard_normal(count, np.float32).astype(precision.dtype)
    bank = order_by_owner(values, rng.choice(np.array([0, 1, 2, NO_RANK], np.uint8), count), 3)
    addresses = [_put(device, array, where) for array in (bank.values, bank.masks, bank.before)]
    out = device.allocate(count * size)

    masks, before = addresses[1] + bank.masks[0].nbytes, addresses[2] + bank.before[0].nbytes
    second = Owners(masks, before, bank.tiles, 1, 0, count, size)  # the task's own row alone

    def up() -> None:
        device.write_owners(out, addresses[0], second)

    def down() -> None:
        device.clear_owners(out, second)

    got, expected = np.empty_like(values), np.zeros_like(values)
    equal = True
    device.clear(out, count * size)
    for step, (source, target) in ((up, (1, 2)), (down, (2, 1))):
        step()
        device.download(got, out)
        device.synchronise()
        switch_in_place(expected, bank, source, target)
        equal = equal and got.tobytes() == expected.tobytes()
    rates = []
    for step, (source, target) in ((up, (1, 2)), (down, (2, 1))):
        cost = traffic(bank, source, target)
        moved = cost.values + cost.positions + cost.weights * size
        rates.append(moved / seconds_each(device, step) / 1e9)
    moved = min(bank.values.nbytes, count * size)
    copy_rate = 2 * moved / seconds_each(device, lambda: copy(device, out, addresses[0], moved)) / 1e9
    return "yes" if equal else "NO", *rates, copy_rate, rates[0] / copy_rate


def _put(device: Any, array: npt.NDArray[Any], where: str) -> int:
    if where == "host":
        memory = device.pinned(array.nbytes)
        memory[:] = array.reshape(-1).view(np.uint8)
        return int(device.address_of(memory))
    address = int(device.allocate(array.nbytes))
    device.upload(address, array)
    device.synchronise()
    return address


def seconds_each(device: Any, enqueue: Callable[[], None]) -> float:
    """Time of one of many that are enqueued together: the median of several rounds, the first not counted."""
    times = []
    for _ in range(1 + REPEATS):
        device.synchronise()
        start = time.perf_counter()
        for _ in range(LAUNCHES):
            enqueue()
        device.synchronise()
        times.append((time.perf_counter() - start) / LAUNCHES)
    return median(times[1:])


def device_copy(device: Device, to: int, source: int, size: int) -> None:
    """Enqueue a copy within the GPU's memory on the device's stream."""
    from cuda.bindings import driver

    answer(driver.cuMemcpyDtoDAsync(to, source, size, device.stream))


def host_copy(device: Device, to: int, source: int, size: int) -> None:
    """The same from page-locked memory."""
    device.copy(to, source, size)
