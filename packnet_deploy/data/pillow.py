"""Pillow's images: the one door to Pillow, and from the mode an image is in to 8-bit RGB, turned upright.

There is one rule for each mode; docs/format.md has the table. Opening files is ``splits.py``'s business, what of the
image the network sees ``preprocess.py``'s. By the time an image comes here, Pillow's decoders have brought colours of
more than 8 bits to 8, by their high byte.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from packnet_deploy.errors import missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

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
