"""Images for training and for measuring while training, as float32 batches on the training device.

The order of an epoch and the random numbers of every augmentation are drawn here, in the main process, from (seed,
epoch); image ``i`` of epoch ``e`` therefore looks the same whatever the number of worker processes, and in a resumed
run. A set that fits into ``MEMORY_LIMIT`` is decoded and resized once, in threads, and kept as uint8; a larger one is
decoded by DataLoader workers in every epoch. Batches travel as uint8 and are normalised on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from packnet_deploy.data.batches import in_threads, pixel_batches, usable_cores
from packnet_deploy.data.preprocess import DRAWS, Pixels, ResizedImages
from packnet_deploy.data.splits import ImageSplit, TaskData
from packnet_deploy.errors import PackNetError, UsageError
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.training.augment import Augmentation, Draws, usual

MEMORY_LIMIT = 512 << 20  # bytes of resized images kept in memory
SIZED = 24  # images looked at to estimate how large the resized set is

Batch = tuple[torch.Tensor, torch.Tensor]


class Normaliser:
    """uint8 ``[b, c, h, w]`` to the network's float32 input on ``device``: ``InputSpec.normalise``, bit for bit."""

    def __init__(self, spec: InputSpec, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._mean = torch.tensor(spec.mean, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)
        self._std = torch.tensor(spec.std, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        values = pixels.to(self.device, non_blocking=True).to(torch.float32)
        return values.div_(255).sub_(self._mean).div_(self._std)


class TrainLoader:
    """One epoch of training batches per iteration; ``set_epoch`` says which.

    Yields float32 ``[b, c, h, w]`` and int64 ``[b]`` on ``device``. Every image comes once an epoch. A last batch of
    a single image, which BatchNorm cannot train on, is merged into the batch before it.

    Args:
        share: (process, processes) that train together; each gets its part of every batch, at least two images.

    Attributes:
        in_memory: the set is kept decoded; ``workers`` is 0 then.
    """

    def __init__(
        self,
        split: ImageSplit,
        spec: InputSpec,
        batch_size: int,
        seed: int,
        workers: int | None,
        augmentation: Augmentation,
        device: str | torch.device,
        memory_limit: int,
        share: tuple[int, int],
    ) -> None:
        files = ResizedImages(split, spec)
        self.in_memory = _resized_bytes(files) <= memory_limit
        images = _decoded(files) if self.in_memory else files
        self.workers = 0 if self.in_memory else usable_cores() if workers is None else workers
        self._epoch = _EpochOfBatches(len(split), batch_size, seed, share)
        self._normalise = Normaliser(spec, device)
        self._loader = DataLoader(
            _Views(images, split.labels, spec, augmentation),
            batch_sampler=self._epoch,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_as_it_is,
            pin_memory=self._normalise.device.type == "cuda",
            # Its own, because DataLoader draws from the global generator otherwise: reading images must not
            # change what dropout does.
            generator=torch.Generator().manual_seed(seed),
        )

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch that the next iteration gives, counted from 0, without its first ``skip`` batches."""
        self._epoch.epoch, self._epoch.skip = epoch, skip

    def __len__(self) -> int:
        return len(self._epoch)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, PackNetError):
                raise batch
            pixels, labels = batch
            yield self._normalise(pixels), labels.to(self._normalise.device, non_blocking=True)


class EvalLoader:
    """A split in its own order, centre cut, as often as asked: float32 ``[b, c, h, w]`` and int64 ``[b]``.

    The same pixels as ``packnet_deploy.data.batches``. Decoded in threads; kept as uint8 after the first complete
    pass if they fit.
    """

    def __init__(
        self,
        split: ImageSplit,
        spec: InputSpec,
        batch_size: int,
        device: str | torch.device = "cpu",
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self._split, self._spec, self._batch_size = split, spec, batch_size
        self._normalise = Normaliser(spec, device)
        self._keep = len(split) * int(np.prod(spec.shape)) <= memory_limit
        self._kept: list[Batch] = []

    def __len__(self) -> int:
        return ceil(len(self._split) / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        passed: list[Batch] = []
        for batch in self._kept or self._decode():
            if self._keep:
                passed.append(batch)
            pixels, labels = batch
            yield self._normalise(pixels), labels.to(self._normalise.device, non_blocking=True)
        self._kept = passed

    def _decode(self) -> Iterator[Batch]:
        for pixels, labels in pixel_batches(self._split, self._spec, self._batch_size):
            yield torch.from_numpy(pixels), torch.from_numpy(labels)


def train_loader(
    data: TaskData,
    spec: InputSpec,
    batch_size: int,
    seed: int,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    memory_limit: int = MEMORY_LIMIT,
    share: tuple[int, int] = (0, 1),
    augment: Sequence[str] | None = None,
) -> TrainLoader:
    """Batches of a task's training images, augmented.

    Args:
        workers: decoding processes for a set too large for memory; by default one per usable core.
        share: (process, processes) that train together; each gets its part of every batch.
        augment: of ``options.AUGMENTATIONS``; by default a random cut, mirrored where ``data.flip`` allows it; empty
            for images as evaluation sees them.

    Raises:
        UsageError: there are too few images for so many processes.
        EnvironmentFault: an image cannot be read (at once if the set fits into memory, else in an epoch).
    """
    augmentation = Augmentation(usual(data.flip) if augment is None else augment, spec)
    return TrainLoader(data.train, spec, batch_size, seed, workers, augmentation, device, memory_limit, share)


class _View(NamedTuple):
    """Which image to show, and the random numbers that augment it."""

    image: int
    draws: Draws


class _EpochOfBatches(Sampler[list[_View]]):
    """The batches of one epoch, or one process's share of each; a pure function of (seed, epoch)."""

    def __init__(self, count: int, batch_size: int, seed: int, share: tuple[int, int]) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
        self._rank, processes = share
        least = 2 * processes if batch_size > 1 else processes  # BatchNorm cannot train on a single image
        if processes > 1 and min(batch_size, count) < least:
            raise UsageError(
                f"{processes} processes: expected batches of {least} images or more, got --batch-size {batch_size} "
                f"and {count} images; start fewer processes or use larger batches"
            )
        ends = list(range(batch_size, count, batch_size))
        if ends and count - ends[-1] < least:
            ends.pop()
        self._count, self._ends, self._seed, self._processes = count, ends, seed, processes
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        return len(self._ends) + 1

    def __iter__(self) -> Iterator[list[_View]]:
        rng = np.random.default_rng((self._seed, self.epoch))
        order = rng.permutation(self._count)
        places = rng.random((self._count, DRAWS))  # row i belongs to image i, wherever the shuffle puts it
        seeds = rng.integers(1 << 63, size=self._count)
        for indices in np.split(order, self._ends)[self.skip :]:
            mine = indices[self._rank :: self._processes]
            yield [_View(index, Draws(places[index], int(seeds[index]))) for index in mine.tolist()]


class _Views(Dataset[Batch]):
    """Makes batches of uint8 ``[b, c, h, w]`` from resized images; no state, no randomness of its own."""

    def __init__(
        self,
        images: Sequence[Pixels] | ResizedImages,
        labels: npt.NDArray[np.int64],
        spec: InputSpec,
        augmentation: Augmentation,
    ) -> None:
        self._images, self._labels, self._spec, self._augmentation = images, labels, spec, augmentation

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, views: list[_View]) -> Batch | PackNetError:
        """The batch; or the error, because one raised in a worker reaches the user wrapped in its traceback."""
        pixels = np.empty((len(views), *self._spec.shape), np.uint8)
        try:
            for row, view in zip(pixels, views, strict=True):
                row[...] = self._augmentation(self._images[view.image], view.draws)
        except PackNetError as error:
            return error
        return torch.from_numpy(pixels), torch.from_numpy(self._labels[[view.image for view in views]])


def _decoded(images: ResizedImages) -> list[Pixels]:
    """All images, decoded in threads, each in memory of its own in CHW order."""

    def one(index: int) -> Pixels:
        return np.ascontiguousarray(images[index])

    return list(in_threads(one, range(len(images)), ahead=64))


def _resized_bytes(images: ResizedImages) -> int:
    """About how much memory the resized images take, judged by some of them, evenly spread."""
    chosen = np.unique(np.linspace(0, len(images) - 1, SIZED).round().astype(int))
    return int(np.mean([images[int(i)].nbytes for i in chosen]) * len(images))


def _as_it_is(batch: Any) -> Any:
    """The dataset makes whole batches; there is nothing left to collate."""
    return batch
