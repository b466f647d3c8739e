"""What a data set is to the rest of the package: labelled images, in parts that never share one.

Covers the split types, the data of one task and the seeded stratified split. Reading data sets from files is
``imageset.py`` and one file per layout, making images is ``builtin.py``, turning an image into a network's input is
``preprocess.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.pillow import pillow, read_rgb, size_of
from packnet_deploy.errors import EnvironmentFault

if TYPE_CHECKING:
    from PIL.Image import Image

VAL_FRACTION = 0.1  # of every class of the training images, where a set brings no validation images


@dataclass(frozen=True, eq=False)
class ImageSplit(ABC):
    """Labelled images, decoded one at a time. Safe to share between threads and to send to worker processes.

    Attributes:
        labels: int64 ``[n]``, indices into the classes of the set.
        skipped: files of this part that were left out because they cannot be read; a subset's is empty.
        notes: what was read otherwise than asked for, or not at all, a sentence each.
    """

    labels: npt.NDArray[np.int64]
    skipped: tuple[str, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxed(self) -> bool:
        """Whether the set has bounding boxes, to which its images are cut before anything else."""
        return False

    @abstractmethod
    def image(self, index: int, boxed: bool = True) -> Image:
        """Image ``index`` in 8-bit RGB, as it is stored: not yet turned upright.

        Args:
            boxed: cut to its bounding box, where the set has one for it.

        Raises:
            EnvironmentFault: the image cannot be read, or Pillow is missing.
        """

    @abstractmethod
    def check_header(self, index: int) -> None:
        """Read as much of image ``index`` as says that it is one, and decode nothing; raises as ``image`` does."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Where image ``index`` comes from, for messages."""

    @abstractmethod
    def subset(self, indices: npt.NDArray[np.int64]) -> ImageSplit:
        """The images at ``indices``, in that order."""


@dataclass(frozen=True, eq=False)
class FileSplit(ImageSplit):
    """Image files, opened when asked for.

    Attributes:
        boxes: the part of each image that counts, int64 ``[n, 4]``: left, top, right, bottom in pixels as they are
            stored, the last two exclusive. What of a box lies outside its image is cut off. None: the whole images.
    """

    paths: tuple[str, ...]
    boxes: npt.NDArray[np.int64] | None = None

    @property
    def boxed(self) -> bool:
        return self.boxes is not None

    def image(self, index: int, boxed: bool = True) -> Image:
        try:
            return read_rgb(self.paths[index], self.boxes[index].tolist() if boxed and self.boxes is not None else None)
        except ValueError as error:
            raise self._unreadable(index, error) from error

    def check_header(self, index: int) -> None:
        try:
            size_of(self.paths[index])
        except ValueError as error:
            raise self._unreadable(index, error) from error

    def _unreadable(self, index: int, error: ValueError) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self.paths[index]}: expected a readable image, got: {error}; replace or remove the file, "
            "or leave out all such images by --skip-bad-images"
        )

    def name(self, index: int) -> str:
        return self.paths[index]

    def noted(self, note: str) -> FileSplit:
        """The same images, and one more note on how they were read."""
        return replace(self, notes=(note, *self.notes))

    def subset(self, indices: npt.NDArray[np.int64]) -> FileSplit:
        return replace(
            self,
            labels=self.labels[indices],
            paths=tuple(self.paths[i] for i in indices),
            boxes=None if self.boxes is None else self.boxes[indices],
            skipped=(),
        )


@dataclass(frozen=True, eq=False)
class ArraySplit(ImageSplit):
    """Images held in memory: ``pixels`` is uint8 ``[n, height, width, 3]``."""

    pixels: npt.NDArray[np.uint8]
    source: str

    def image(self, index: int, boxed: bool = True) -> Image:
        image: Image = pillow().fromarray(self.pixels[index])
        return image

    def check_header(self, index: int) -> None:
        """There is nothing that could not be read."""

    def name(self, index: int) -> str:
        return f"{self.source} image {index}"

    def subset(self, indices: npt.NDArray[np.int64]) -> ArraySplit:
        return replace(self, labels=self.labels[indices], pixels=self.pixels[indices], skipped=())


@dataclass(frozen=True, eq=False)
class TaskData:
    """The images of one task. ``test`` gives the final figure only; whatever is chosen is chosen on ``val``."""

    classes: tuple[str, ...]
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit
    flip: bool  # a mirrored image still shows its class
    source: str  # where it was found: a folder, with what was before it in the URI, or builtin:NAME
    val_from: str  # where val and test came from, in words
    test_from: str
    skipped: tuple[str, ...] = ()  # files left out of any part because they cannot be read
    notes: tuple[str, ...] = ()  # what was read otherwise than asked for, or not at all, a sentence each

    def summary(self) -> str:
        """One line on what is trained, selected and measured on which images."""
        return (
            f"{self.source}: {len(self.classes)} classes; {len(self.train)} images to train, "
            f"{len(self.val)} to select ({self.val_from}), {len(self.test)} for the final figure ({self.test_from})"
        )


def stratified_split(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw ``fraction`` of every class, for the same seed always the same images.

    A class of two images or more gives at least one and keeps at least one; a class of one image gives none.

    Args:
        labels: int64 ``[n]``.
        fraction: part of each class to draw, above 0 and below 1.

    Returns:
        Indices of the kept and of the drawn images, each ascending; together they are ``0 .. n-1``.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: expected above 0 and below 1, got {fraction}")
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        drawn[rng.permutation(members)[:count]] = True
    return np.flatnonzero(~drawn), np.flatnonzero(drawn)


def held_out(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As ``stratified_split``, and with a fraction of 0 nothing is drawn."""
    if fraction:
        return stratified_split(labels, fraction, seed)
    return np.arange(len(labels)), np.empty(0, np.int64)


def relabelled(split: ImageSplit, own: Sequence[str], wanted: Sequence[str], source: str | Path) -> ImageSplit:
    """``split`` with its labels counted in ``wanted``, the classes of a trained task; some may have no image.

    Raises:
        EnvironmentFault: a class of the set is not one of the task's.
    """
    index = {name: i for i, name in enumerate(wanted)}
    unknown = [name for name in own if name not in index]
    if unknown:
        raise EnvironmentFault(
            f"{source}: expected only the task's {len(wanted)} classes ({listing(wanted)}), "
            f"got also {listing(unknown)}; rename or remove these, or choose another task"
        )
    table = np.array([index[name] for name in own], np.int64)
    return replace(split, labels=table[split.labels])


def listing(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
