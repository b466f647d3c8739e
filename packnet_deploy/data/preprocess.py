"""From an image to a network's input pixels, as an ``InputSpec`` says: turn, resize, cut, mirror.

Modes and bit depths are ``pillow.py``'s, normalisation is ``InputSpec.normalise``. The pixels equal those of well-known
libraries on a PIL image, bit for bit, if they too resize across first and then down; by framing: ``crop``,
torchvision's ``Resize(spec.resize)`` and ``CenterCrop``; ``whole``, its ``Resize((height, width))``; ``pad``, Pillow's
``ImageOps.contain`` and then ``CenterCrop``, which pads. A side shorter than the cut is filled evenly. A spec of one
channel sees the image in grey (ITU-R 601 luma) before the resize.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.pillow import pillow, upright
from packnet_deploy.data.splits import ImageSplit
from packnet_deploy.pack.inputs import InputSpec

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]  # [channels, height, width]

DRAWS = 3  # random numbers that a cut and the mirror take: row, column, mirror


def centre(image: Image, spec: InputSpec) -> Pixels:
    """The part of an image that evaluation sees: uint8 ``[c, h, w]``, contiguous.

    Args:
        image: in 8-bit RGB (or grey), cut to its bounding box already where ``spec.boxes`` says so.
    """
    return np.ascontiguousarray(centre_cut(resized(image, spec), spec))


def resized(image: Image, spec: InputSpec) -> Pixels:
    """The whole image, from which a view is cut: uint8 ``[c, H, W]``, a view of HWC memory.

    Its shorter side is ``spec.resize`` long; with another framing than ``crop`` it fits into the network's input, so
    that the only cut there is takes all of it.
    """
    if spec.exif_orientation:
        image = upright(image)
    if spec.shape[0] == 1:
        image = image.convert("L")
    columns, rows = _size(image.size, spec)
    # Across, then down, each for itself: from version 13 on Pillow does some images the other way round where it is
    # asked for both at once, and a pixel here and there rounds to another value.
    for size in ((columns, image.height), (columns, rows)):
        if size != image.size:
            image = image.resize(size, pillow().Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def centre_cut(pixels: Pixels, spec: InputSpec) -> Pixels:
    """The middle ``h x w`` of uint8 ``[c, H, W]``; a view where nothing is padded."""
    (_, full_height, full_width), (_, height, width) = pixels.shape, spec.shape
    return _cut(pixels, _middle(full_height, height), _middle(full_width, width), spec)


def random_cut(pixels: Pixels, spec: InputSpec, draws: npt.NDArray[np.float64]) -> Pixels:
    """An ``h x w`` part of uint8 ``[c, H, W]`` chosen by ``draws``; a view where nothing is padded.

    Args:
        draws: float64 ``[DRAWS]``, uniform in 0 <= x < 1: row, column, mirror.
    """
    (_, full_height, full_width), (_, height, width) = pixels.shape, spec.shape
    top, left = _offset(full_height, height, draws[0]), _offset(full_width, width, draws[1])
    return _cut(pixels, top, left, spec)


def mirrored(pixels: Pixels, draws: npt.NDArray[np.float64]) -> Pixels:
    """Half of all images from right to left, by ``random_cut``'s draws; a view."""
    return pixels[:, :, ::-1] if draws[2] < 0.5 else pixels


def _size(size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """Width and height that an image of such a size is resized to."""
    (width, height), (_, rows, columns) = size, spec.shape
    if spec.framing == "whole":
        return columns, rows
    if spec.framing == "pad":
        if width / height > columns / rows:
            return columns, max(1, round(height / width * columns))
        return max(1, round(width / height * rows)), rows
    short, long = min(width, height), max(width, height)
    longer = int(spec.resize * long / short)
    return (spec.resize, longer) if width <= height else (longer, spec.resize)


class ResizedImages:
    """A split as a sequence of resized images, each decoded anew: uint8 ``[c, H, W]``, ``H`` and ``W`` its own."""

    def __init__(self, split: ImageSplit, spec: InputSpec) -> None:
        self._split, self._spec = split, spec

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> Pixels:
        return resized(self._split.image(index, self._spec.boxes), self._spec)


def _middle(full: int, part: int) -> int:
    """Where the middle part starts; negative if it is longer. Odd differences fall as torchvision's do."""
    return round((full - part) / 2) if full >= part else -((part - full) // 2)


def _offset(full: int, part: int, draw: float) -> int:
    """Where a random part starts: each of the ``full - part + 1`` places alike; centred if it is longer."""
    return int(draw * (full - part + 1)) if full >= part else _middle(full, part)


def _cut(pixels: Pixels, top: int, left: int, spec: InputSpec) -> Pixels:
    """The ``h x w`` of ``pixels`` that begin at ``top``, ``left``; ``spec.fill`` where that lies outside."""
    (channels, full_height, full_width), (_, height, width) = pixels.shape, spec.shape
    bottom, right = top + height, left + width
    if top >= 0 and left >= 0 and bottom <= full_height and right <= full_width:
        return pixels[:, top:bottom, left:right]
    inside = pixels[:, max(top, 0) : bottom, max(left, 0) : right]
    padded = np.full((channels, height, width), spec.fill, np.uint8)
    row, column = max(-top, 0), max(-left, 0)
    padded[:, row : row + inside.shape[1], column : column + inside.shape[2]] = inside
    return padded
