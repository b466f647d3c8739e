"""What a data set is to the rest of the package: labelled images, in parts that never share one.

Covers the split types, the data of one task and the seeded stratified split. Reading folders is ``folders.py``,
making images is ``builtin.py``, turning an image into a network's input is ``preprocess.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.pillow import pillow
from packnet_deploy.errors import EnvironmentFault

if TYPE_CHECKING:
    from PIL.Image import Image

VAL_FRACTION = 0.1  # of every class of the training images, where a set brings no validation images


@dataclass(frozen=True, eq=False)
class ImageSplit(ABC):
    """Labelled images, decoded one at a time. Safe to share between threads and to send to worker processes."""

    labels: npt.NDArray[np.int64]  # [n], indices into the classes of the set

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Image:
        """Image ``index`` in RGB.

        Raises:
            EnvironmentFault: the image cannot be read, or Pillow is missing.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Where image ``index`` comes from, for messages."""

    @abstractmethod
    def subset(self, indices: npt.NDArray[np.int64]) -> ImageSplit:
        """The images at ``indices``, in that order."""


@dataclass(frozen=True, eq=False)
class FileSplit(ImageSplit):
    """Image files, opened when asked for."""

    paths: tuple[str, ...]

    def image(self, index: int) -> Image:
        path = self.paths[index]
        opener = pillow()
        try:
            with opener.open(path) as image:
                rgb: Image = image.convert("RGB")
                return rgb
        except Exception as error:  # a damaged file can make Pillow's decoders raise nearly anything
            reason = "its content is no image format known here"
            if not isinstance(error, opener.UnidentifiedImageError):
                reason = " ".join(str(error).split()) or type(error).__name__
            raise EnvironmentFault(
                f"{path}: expected a readable image, got: {reason}; replace or remove the file"
            ) from error

    def name(self, index: int) -> str:
        return self.paths[index]

    def subset(self, indices: npt.NDArray[np.int64]) -> FileSplit:
        return FileSplit(self.labels[indices], tuple(self.paths[i] for i in indices))


@dataclass(frozen=True, eq=False)
class ArraySplit(ImageSplit):
    """Images held in memory: ``pixels`` is uint8 ``[n, height, width, 3]``."""

    pixels: npt.NDArray[np.uint8]
    source: str

    def image(self, index: int) -> Image:
        image: Image = pillow().fromarray(self.pixels[index])
        return image

    def name(self, index: int) -> str:
        return f"{self.source} image {index}"

    def subset(self, indices: npt.NDArray[np.int64]) -> ArraySplit:
        return replace(self, labels=self.labels[indices], pixels=self.pixels[indices])


@dataclass(frozen=True, eq=False)
class TaskData:
    """The images of one task. ``test`` gives the final figure only; whatever is chosen is chosen on ``val``."""

    classes: tuple[str, ...]
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit
    flip: bool  # a mirrored image still shows its class
    source: str  # what the user gave: a folder or builtin:NAME
    val_from: str  # where val and test came from, in words
    test_from: str

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
