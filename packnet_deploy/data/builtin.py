"""The built-in image sets: three different tasks that need no download, made in memory when they are opened.

``digits`` are real handwriting, ``letters`` are rendered from fonts, ``textures`` are computed. All are 32 x 32 RGB.
Their images are always the same on one machine and set of package versions; the user's seed only chooses which
training images are held out, as for a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.splits import VAL_FRACTION, ArraySplit, TaskData, held_out, listing
from packnet_deploy.errors import UsageError

SIDE = 32  # pixels
NAMES = ("digits", "letters", "textures")


@dataclass(frozen=True, eq=False)
class LabelledPixels:
    """Images uint8 ``[n, SIDE, SIDE, 3]`` and labels int64 ``[n]``."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BuiltinSet:
    """What each set's ``make()`` returns."""

    classes: tuple[str, ...]
    train: LabelledPixels
    test: LabelledPixels
    flip: bool


def known(name: str) -> str:
    """``name``, if there is a built-in set called so.

    Raises:
        UsageError: there is none; lists those there are.
    """
    if name not in NAMES:
        raise UsageError(f"built-in data set: expected one of {listing(NAMES)}, got {name!r}")
    return name


def load(name: str, seed: int = 0, val_fraction: float = VAL_FRACTION) -> TaskData:
    """Make a built-in set and hold ``val_fraction`` of its training images out for selection.

    Raises:
        EnvironmentFault: a package that holds its material is missing.
        UsageError: there is no set of that name.
    """
    make: Callable[[], BuiltinSet] = import_module(f"packnet_deploy.data.{known(name)}").make
    made, source = make(), f"builtin:{name}"
    train = ArraySplit(made.train.labels, made.train.pixels, f"{source} train")
    kept, drawn = held_out(train.labels, val_fraction, seed)
    return TaskData(
        made.classes,
        train.subset(kept),
        train.subset(drawn),
        ArraySplit(made.test.labels, made.test.pixels, f"{source} test"),
        made.flip,
        source,
        val_from=f"held out of its training images, seed {seed}" if val_fraction else "none held out",
        test_from="its own test images",
    )
