"""Batches of evaluation images, decoded in threads, in order. Training has its own loader (training/loader.py)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.preprocess import centre
from packnet_deploy.data.splits import ImageSplit
from packnet_deploy.pack.inputs import InputSpec

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 16


def batches(
    split: ImageSplit, spec: InputSpec, batch_size: int, threads: int | None = None
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """A split once, in order, ready for the network; the last batch may be smaller.

    Args:
        threads: decoding threads; by default one per usable core, at most ``MAX_THREADS``.

    Yields:
        Normalised images, float32 ``[b, c, h, w]``, and labels, int64 ``[b]``.

    Raises:
        EnvironmentFault: an image cannot be read (the message has its path), or Pillow is missing.
    """
    for pixels, labels in pixel_batches(split, spec, batch_size, threads):
        yield spec.normalise(pixels), labels


def pixel_batches(
    split: ImageSplit, spec: InputSpec, batch_size: int, threads: int | None = None
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """As ``batches``, before normalisation: uint8 ``[b, c, h, w]`` and int64 ``[b]``."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")

    def prepared(index: int) -> npt.NDArray[np.uint8]:
        return centre(split.image(index, spec.boxes), spec)

    images = in_threads(prepared, range(len(split)), 2 * batch_size, threads)
    for start in range(0, len(split), batch_size):
        labels = split.labels[start : start + batch_size]
        pixels = np.empty((len(labels), *spec.shape), np.uint8)
        for row in pixels:
            row[...] = next(images)
        yield pixels, labels


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int, threads: int | None = None
) -> Iterator[Result]:
    """``map(function, items)`` in order, with up to ``ahead`` results under way (Pillow decodes without the GIL)."""
    pool = ThreadPoolExecutor(threads or usable_cores(), thread_name_prefix="images")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also when the reader stops half-way
        pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """Cores this process may run on, at most ``MAX_THREADS``."""
    affinity = getattr(os, "sched_getaffinity", None)  # absent outside Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, MAX_THREADS)
