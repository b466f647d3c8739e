"""Augmentations of training images, by name: what an image may look like without showing something else.

They apply to the resized 8-bit image, in one order whatever order they are given in: a cut, the mirror, colours,
erasing. The cut and the mirror of the default are ``preprocess.py``'s; the others are torchvision's transforms (v2).
Every draw is a function of the numbers that come with the image, so that an image of an epoch looks the same in any
process, and in a training that was resumed. Evaluation has none of this: it sees ``preprocess.centre``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms import v2

from packnet_deploy.data.preprocess import Pixels, centre_cut, mirrored, random_cut
from packnet_deploy.pack.inputs import InputSpec

SCALE = (0.25, 1.0)  # of the image's area, for random-resized-crop; torchvision's 0.08 often misses what it shows
STRENGTH = 0.4  # of color-jitter: brightness, contrast, saturation; never hue, which tells birds and flowers apart
ERASED = 0.25  # of the images, for erasing


class Draws(NamedTuple):
    """The random numbers of one image in one epoch."""

    places: npt.NDArray[np.float64]  # [preprocess.DRAWS]
    seed: int  # 0 <= seed < 2^63, of everything that is torchvision's


class Augmentation:
    """Turns a resized image into what training shows: uint8 ``[c, H, W]`` to ``[c, h, w]``.

    Without ``crop`` and ``random-resized-crop`` the cut is that of evaluation. Made of plain values, so that worker
    processes can have it.

    Args:
        names: of ``options.AUGMENTATIONS``.
    """

    def __init__(self, names: Sequence[str], spec: InputSpec) -> None:
        self._names, self._spec = frozenset(names), spec
        made = [_TRANSFORMS[name](spec) for name in _TRANSFORMS if name in self._names]
        self._transform = v2.Compose(made) if made else None

    def __call__(self, pixels: Pixels, draws: Draws) -> Pixels:
        if "crop" in self._names:
            pixels = random_cut(pixels, self._spec, draws.places)
        elif "random-resized-crop" not in self._names:
            pixels = centre_cut(pixels, self._spec)
        if "flip" in self._names:
            pixels = mirrored(pixels, draws.places)
        return pixels if self._transform is None else self._transformed(pixels, draws.seed)

    def _transformed(self, pixels: Pixels, seed: int) -> Pixels:
        assert self._transform is not None
        # torchvision draws from the global generator, from which dropout draws as well: it gets it back as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            seen: Pixels = self._transform(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
        return seen


def usual(flip: bool) -> tuple[str, ...]:
    """The augmentations of a set where none are named: the paper's. Not every set's images may be mirrored."""
    return ("crop", "flip") if flip else ("crop",)


def _random_resized_crop(spec: InputSpec) -> v2.Transform:
    return v2.RandomResizedCrop(spec.shape[1:], scale=SCALE, antialias=True)


def _color_jitter(spec: InputSpec) -> v2.Transform:
    return v2.ColorJitter(STRENGTH, STRENGTH, STRENGTH if spec.shape[0] == 3 else 0)


def _trivial_augment(spec: InputSpec) -> v2.Transform:
    return v2.TrivialAugmentWide(fill=spec.fill)


def _rand_augment(spec: InputSpec) -> v2.Transform:
    return v2.RandAugment(fill=spec.fill)


def _erasing(spec: InputSpec) -> v2.Transform:
    return v2.RandomErasing(ERASED, value=[round(255 * mean) for mean in spec.mean])


_TRANSFORMS = {  # in the order that they apply in
    "random-resized-crop": _random_resized_crop,
    "color-jitter": _color_jitter,
    "trivial-augment": _trivial_augment,
    "rand-augment": _rand_augment,
    "erasing": _erasing,
}
