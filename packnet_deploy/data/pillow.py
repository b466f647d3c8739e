"""Pillow's images: the one door to Pillow, and from the mode an image is in to 8-bit RGB, turned upright.

There is one rule for each mode; docs/format.md has the table. What of the image the network sees is
``preprocess.py``'s business. By the time an image comes here, Pillow's decoders have brought colours of more than 8
bits to 8, by their high byte. How large an image may be is looked at before anything is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from packnet_deploy.errors import missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 1 << 27  # of one image: 400 MB as RGB
MAX_ASPECT = 128  # the shorter side resized to 256 pixels, the longer one is 32,768 at most

_EXIF_ORIENTATION = 0x0112


def pillow() -> ModuleType:
    """Pillow's ``PIL.Image`` module.

    Raises:
        EnvironmentFault: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("pillow", "images", "reading images") from error
    return Image


def read_rgb(file: str | os.PathLike[str] | IO[bytes], box: Sequence[int] | None = None) -> Image:
    """The image in a file, in 8-bit RGB, as it is stored: not yet turned upright.

    Args:
        box: the part to cut out, left, top, right, bottom in pixels; what of it lies outside the image is cut off.

    Raises:
        ValueError: it cannot be read, is too large, or ``box`` lies outside it; says no more than that.
        EnvironmentFault: Pillow is not installed.
    """
    opener = pillow()
    try:
        with opener.open(file) as image:
            _check_size(image.size)
            return in_rgb(image if box is None else image.crop(_inside(box, image.size)))
    except Exception as error:  # a damaged file can make Pillow's decoders raise nearly anything
        raise ValueError(_reason(error, opener)) from error


def size_of(file: str | os.PathLike[str] | IO[bytes]) -> tuple[int, int]:
    """Width and height of the image in a file, from its header alone; raises as ``read_rgb`` does."""
    opener = pillow()
    try:
        with opener.open(file) as image:
            _check_size(image.size)
            size: tuple[int, int] = image.size
            return size
    except Exception as error:
        raise ValueError(_reason(error, opener)) from error


def in_rgb(image: Image) -> Image:
    """The image (of several, the first) in 8-bit RGB; whatever else the file says of it (EXIF) goes along.

    Greys of 16 bits keep their high byte, as libpng and most decoders reduce them. What is transparent shows the
    colour stored for it; inks and other colour spaces are converted without a profile, as Pillow does.

    Raises:
        ValueError: values of a mode without a range of its own (32-bit integers, floating point) that are outside the
            range in use for it.
    """
    if image.mode.startswith("I") or image.mode == "F":
        grey = pillow().fromarray(_eight_bits(image))
        grey.info = image.info
        image = grey
    rgb: Image = image.convert("RGB")
    return rgb


def upright(image: Image) -> Image:
    """The image turned and mirrored the way its EXIF data says; as it is where they say nothing that can be read.

    TIFF images come from Pillow turned already, and say nothing any more.
    """
    transpose = pillow().Transpose
    turns = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise nearly anything, and the pixels are none the worse for it
        turn = None
    return image if turn is None else image.transpose(turn)


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_ASPECT * min(size):
        raise ValueError(
            f"{width} x {height} pixels, more than {MAX_PIXELS:,} or one side more than {MAX_ASPECT} times the other"
        )


def _inside(box: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """``box`` without what lies outside an image of ``size``: left, top, right, bottom."""
    left, top, right, bottom = box
    cut = max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise ValueError(f"its bounding box {list(box)} lies outside its {size[0]} x {size[1]} pixels")
    return cut


def _reason(error: Exception, opener: Any) -> str:
    if isinstance(error, opener.UnidentifiedImageError):
        return "its content is no image format known here"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _eight_bits(image: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    values = np.asarray(image)
    if image.mode == "F":
        if not np.all((values >= 0) & (values <= 1)):  # false for NaN
            raise ValueError(_outside("floating point", "0..1", values))
        return np.rint(values * np.float32(255)).astype(np.uint8)
    if not np.all((values >= 0) & (values < 1 << 16)):
        raise ValueError(_outside("32-bit integers", "0..65535", values))
    return (values >> 8).astype(np.uint8)


def _outside(kind: str, expected: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    return f"{kind} outside {expected} ({values.min():g} to {values.max():g}), so that black and white are not known"
