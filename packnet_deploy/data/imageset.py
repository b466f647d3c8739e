"""A data set as its files describe it: its classes and its own parts, before images are held out of training.

Every layout on disk is one file beside this one, whose ``read`` returns an ``ImageSet``: folders.py, imagenet.py,
places365.py, cub200.py, cars.py, flowers102.py. What they share by way of reading is listed.py and annotations.py.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from packnet_deploy.data.batches import in_threads
from packnet_deploy.data.pillow import pillow
from packnet_deploy.data.splits import VAL_FRACTION, FileSplit, TaskData, held_out, listing
from packnet_deploy.errors import EnvironmentFault

PARTS = ("train", "val", "test")
UNWRITABLE = ("Cc", "Cs")  # control characters, and bytes that are no UTF-8: a manifest cannot hold the latter


class Layout(Protocol):
    """What a module that reads one layout offers."""

    FOLDER: str  # how the folder is usually called, where it is
    LAYOUT: str  # what belongs into it, for messages

    def read(self, folder: Path, part: str | None) -> ImageSet:
        """The set, or one part of it alone.

        Raises:
            EnvironmentFault: something is not there, or not as it should be.
            UsageError: the set has no such part.
        """


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Classes and labelled files.

    Attributes:
        parts: the set's own parts, each under its name out of ``PARTS``.
        named: how messages call a part.
        val_fraction: how much of every class's training images is held out for selection, unless the user says or
            the set has both validation and test images.
        standard_order: networks in circulation count these classes in this order, whatever they call them.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, FileSplit]
    named: str = "its {} images"
    val_fraction: float = VAL_FRACTION
    standard_order: bool = False

    def task_data(self, source: str, seed: int, val_fraction: float | None = None) -> TaskData:
        """What is trained, selected and measured on which images.

        With ``val`` and ``test`` both are used as they are. With one only, it gives the final figure, and selection
        gets a seeded stratified part of ``train`` that is then not trained on.

        Raises:
            EnvironmentFault: a class has no training image, or no class has one to spare.
        """
        train = self.parts["train"]
        untrained = np.setdiff1d(np.arange(len(self.classes)), train.labels)
        if len(untrained):
            names = [self.classes[label] for label in untrained]
            raise EnvironmentFault(f"{source}: expected training images of every class, got none of {listing(names)}")
        skipped = tuple(path for part in self.parts.values() for path in part.skipped)
        notes = tuple(dict.fromkeys(note for part in self.parts.values() for note in part.notes))
        if "val" in self.parts and "test" in self.parts:
            val_from, test_from = self.named.format("val"), self.named.format("test")
            val, test = self.parts["val"], self.parts["test"]
            return TaskData(self.classes, train, val, test, True, source, val_from, test_from, skipped, notes)
        (part, test), *_ = ((name, split) for name, split in self.parts.items() if name != "train")
        fraction = self.val_fraction if val_fraction is None else val_fraction
        kept, drawn = held_out(train.labels, fraction, seed)
        if fraction and not len(drawn):
            raise EnvironmentFault(
                f"{source}: expected two images or more in some class to hold out for selection, got one training "
                f"image in each of {len(self.classes)} classes; add images, or a val/ and a test/ folder"
            )
        return TaskData(
            self.classes,
            train.subset(kept),
            train.subset(drawn),
            test,
            flip=True,
            source=source,
            val_from=f"held out of {self.named.format('train')}, seed {seed}" if fraction else "none held out",
            test_from=self.named.format(part),
            skipped=skipped,
            notes=notes,
        )


def without_unreadable(images: ImageSet, source: str) -> ImageSet:
    """The set without the images that cannot be decoded; what they are is in each part's ``skipped``.

    Every image is decoded once, in threads: that takes as long as an epoch's decoding, and finds what Pillow refuses
    (files cut short, other formats, bounding boxes outside their image), not pixels that are merely wrong.

    Raises:
        EnvironmentFault: none of a class's images in a part can be read; or Pillow is missing.
    """
    pillow()  # its absence must not pass for images that cannot be read
    return replace(images, parts={name: _readable(split, images, source) for name, split in images.parts.items()})


def check_headers(data: TaskData) -> None:
    """Read every image's header, of all parts, before hours are spent on those that can be read.

    Raises:
        EnvironmentFault: one is no image, or is too large; names the first.
    """
    pillow()
    for split in (data.train, data.val, data.test):
        for _ in in_threads(split.check_header, range(len(split)), ahead=64):
            pass


def printable(name: str) -> bool:
    """Whether a class may be called so: a manifest and a terminal can show it."""
    return bool(name) and not any(unicodedata.category(character) in UNWRITABLE for character in name)


def _readable(split: FileSplit, images: ImageSet, source: str) -> FileSplit:
    def readable(index: int) -> bool:
        try:
            split.image(index)
        except EnvironmentFault:
            return False
        return True

    good = np.fromiter(in_threads(readable, range(len(split)), ahead=64), bool, len(split))
    lost = np.setdiff1d(split.labels, split.labels[good])
    if len(lost):
        first = split.name(int(np.flatnonzero(split.labels == lost[0])[0]))
        names = [images.classes[label] for label in lost]
        raise EnvironmentFault(
            f"{source}: expected images that can be read in every class, got none in {listing(names)} "
            f"({first} is one that cannot be read); replace them, or remove the class"
        )
    skipped = tuple(split.name(int(index)) for index in np.flatnonzero(~good))
    return replace(split.subset(np.flatnonzero(good)), skipped=skipped)
