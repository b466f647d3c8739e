"""The masking kernel on a GPU: is it right, and how fast is it beside a copy from the GPU's memory to itself?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from packnet_deploy.export.deploy_bank import NO_RANK
from packnet_deploy.export.precision import PRECISIONS, Precision
from packnet_deploy.gpu_report.section import Cell, Section, row
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.gpu import answer, expect_gpu

COUNT = 1 << 26  # weights; twice the memory of any GPU's cache, even in half precision
LAUNCHES = 20  # enqueued at once, so that starting them costs nothing beside them
REPEATS = 7
GOAL = 0.8  # of the copy's bandwidth
COLUMNS = ("precision", "equal to numpy", "mask, GB/s", "copy, GB/s", "ratio")


def masking(folder: Path) -> Section:
    """The section of the report."""
    device = Device(expect_gpu("masking weights"))
    try:
        device.load_kernels()
        rows = tuple(
            row((precision.name,), COLUMNS, lambda precision=precision: measure_mask(device, precision, device_copy))  # type: ignore[misc]
            for precision in PRECISIONS.values()
        )
    finally:
        device.close()
    ratios = [cells[-1] for cells in rows if isinstance(cells[-1], float)]
    reached = f"{min(ratios):.0%} of a device copy's bandwidth at least; the goal is {GOAL:.0%}" if ratios else ""
    return Section(
        "Masking kernel",
        f"Is the kernel right, and does it reach {GOAL:.0%} of the bandwidth of a copy from device to device? "
        f"{COUNT:,} weights; every byte that is read or written counts, ranks too.",
        COLUMNS,
        rows,
        reached,
    )


def measure_mask(
    device: Any, precision: Precision, copy: Callable[[Any, int, int, int], None], count: int = COUNT
) -> tuple[Cell, ...]:
    """Mask a random bank for one task of three; a row without its label.

    Args:
        device: ``Device``, kernels loaded.
        copy: enqueues a copy of so many bytes: device, to, from, bytes.
    """
    size = precision.dtype.itemsize
    rng = np.random.default_rng(0)
    bank = rng.standard_normal(count, np.float32).astype(precision.dtype)
    ranks = rng.choice(np.array([0, 1, 2, NO_RANK], np.uint8), count)
    out, values, owned = device.allocate(count * size), device.allocate(count * size), device.allocate(count)
    got = np.empty_like(bank)
    device.upload(values, bank)
    device.upload(owned, ranks)
    device.mask(out, values, owned, count, 2, size)
    device.download(got, out)
    device.synchronise()
    expected = np.where(ranks < 2, bank, precision.dtype.type(0))
    equal = got.tobytes() == expected.tobytes()
    mask_s = seconds_each(device, lambda: device.mask(out, values, owned, count, 2, size))
    copy_s = seconds_each(device, lambda: copy(device, out, values, count * size))
    mask_rate, copy_rate = count * (2 * size + 1) / mask_s / 1e9, count * 2 * size / copy_s / 1e9
    return "yes" if equal else "NO", mask_rate, copy_rate, mask_rate / copy_rate


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
