"""The built-in image sets: three different tasks that need no download, made in memory when they are opened.

``digits`` are real handwriting, ``letters`` are rendered from fonts, ``textures`` are computed. All are 32 x 32 RGB.
Their images are always the same on one machine and set of package versions; the user's seed only chooses which
training images are held out, as for a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.splits import VAL_FRACTION, ArraySplit, TaskData, held_out, listing
from packnet_deploy.errors import UsageError

SIDE = 32  # pixels
NAMES = ("digits", "letters", "textures")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
Float = npt.NDArray[np.floating[Any]]  # float32 throughout


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


def write_folder(name: str, folder: Path) -> int:
    """Write a built-in set as ``folder/{train,test}/CLASS/NNNN.png``; returns how many images there are.

    Raises:
        EnvironmentFault, UsageError: as ``load``.
        OSError: the disk is full, or the folder is not writable.
    """
    data = load(name, val_fraction=0)
    for part, split in (("train", data.train), ("test", data.test)):
        for label in data.classes:
            (folder / part / label).mkdir(parents=True, exist_ok=True)
        for index, label in enumerate(split.labels.tolist()):
            split.image(index).save(folder / part / data.classes[label] / f"{index:04}.png")
    return len(data.train) + len(data.test)


def paint(
    coverage: Float, rng: np.random.Generator, contrast: tuple[float, float], noise: float
) -> npt.NDArray[np.uint8]:
    """Blend two random colours by ``coverage``, shade one side, add noise.

    Neither colour is always the darker one, so nothing can be told from brightness alone.

    Args:
        coverage: float32 ``[n, side, side]`` in 0..1; 0 shows the first colour, 1 the second.
        contrast: smallest and largest difference of the two colours' brightness, on a scale of 0..1.
        noise: largest standard deviation of the noise, on the same scale.

    Returns:
        uint8 ``[n, side, side, 3]``.
    """
    n, side, _ = coverage.shape
    gap = rng.uniform(*contrast, n)
    dark = rng.uniform(0, 1 - gap)
    levels = np.stack([dark, dark + gap])
    levels = np.where(rng.random(n) < 0.5, levels, levels[::-1])
    first, second = (_coloured(level, rng)[:, None, None, :] for level in levels)
    picture = first + (second - first) * coverage[..., None]
    # A linear shade across the picture, as from a lamp on one side.
    slope = rng.uniform(-0.15, 0.15, (2, n, 1, 1)).astype(np.float32)
    along = np.linspace(-1, 1, side, dtype=np.float32)
    picture += (slope[0] * along[:, None] + slope[1] * along)[..., None]
    spread = rng.uniform(0, noise, (n, 1, 1, 1)).astype(np.float32)
    picture += rng.standard_normal(picture.shape, np.float32) * spread
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _coloured(level: npt.NDArray[np.float64], rng: np.random.Generator) -> Float:
    """Random colours of a given brightness: float32 ``[n, 3]``; tints beyond 0..1 are clipped by the painter."""
    tint = rng.uniform(-0.35, 0.35, (len(level), 3)).astype(np.float32)
    tint -= (tint @ LUMA)[:, None]
    return level[:, None].astype(np.float32) + tint
