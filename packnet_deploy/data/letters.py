"""``builtin:letters``: capital letters in the fonts that matplotlib brings, bent, coloured and noisy.

The test letters are drawn in other fonts than the training letters.
"""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.builtin import SIDE, BuiltinSet, LabelledPixels, paint
from packnet_deploy.data.pillow import pillow
from packnet_deploy.errors import EnvironmentFault, missing_package

TRAIN_FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmb10", "cmtt10",
)  # fmt: skip
TEST_FONTS = ("DejaVuSansMono-BoldOblique", "DejaVuSerif-Bold", "STIXGeneralBol", "cmss10", "cmti10")
TRAIN_COUNT, TEST_COUNT = 130, 40  # images of each letter

GLYPH = 64  # side of the tile that a letter is drawn on once, before it is bent, pixels
HEIGHT = 40  # of a letter on its tile


def make() -> BuiltinSet:
    """26 classes, ``TRAIN_COUNT`` and ``TEST_COUNT`` images each.

    Raises:
        EnvironmentFault: matplotlib (for its fonts) or Pillow is missing.
    """
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise missing_package("matplotlib", "train", "builtin:letters") from error
    folder = Path(get_data_path()) / "fonts" / "ttf"
    rng = np.random.default_rng(0)
    return BuiltinSet(
        classes=tuple(ascii_uppercase),
        train=_draw(folder, TRAIN_FONTS, TRAIN_COUNT, rng),
        test=_draw(folder, TEST_FONTS, TEST_COUNT, rng),
        flip=False,
    )


def _draw(folder: Path, fonts: tuple[str, ...], count: int, rng: np.random.Generator) -> LabelledPixels:
    tiles = [_tiles(folder / f"{font}.ttf") for font in fonts]
    labels = np.repeat(np.arange(len(ascii_uppercase)), count)
    choice = rng.integers(len(fonts), size=len(labels))
    matrices = _distortions(len(labels), rng)
    image = pillow()
    coverage = np.empty((len(labels), SIDE, SIDE), np.float32)
    for row, label, font, matrix in zip(coverage, labels, choice, matrices, strict=True):
        bent = tiles[font][label].transform(
            (SIDE, SIDE), image.Transform.AFFINE, tuple(matrix), image.Resampling.BILINEAR
        )
        row[...] = np.asarray(bent)
    return LabelledPixels(paint(coverage / 255, rng, contrast=(0.25, 0.9), noise=0.12), labels)


def _tiles(font: Path) -> list[object]:
    """Each capital letter of a font in white on black, ``GLYPH`` pixels square, its box centred, equally tall."""
    from PIL import ImageDraw, ImageFont

    image = pillow()
    try:
        face = ImageFont.truetype(str(font), HEIGHT)
    except OSError as error:
        raise EnvironmentFault(
            f"{font}: expected a font that matplotlib brings, got: {error}; reinstall matplotlib"
        ) from error
    tiles = []
    for letter in ascii_uppercase:
        tile = image.new("L", (GLYPH, GLYPH))
        left, top, right, bottom = face.getbbox(letter)
        corner = ((GLYPH - left - right) / 2, (GLYPH - top - bottom) / 2)
        ImageDraw.Draw(tile).text(corner, letter, fill=255, font=face)
        tiles.append(tile)
    return tiles


def _distortions(n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Random affine maps from image to tile coordinates, ``[n, 6]`` in Pillow's order: turn, shear, scale, shift."""
    angle = np.deg2rad(rng.uniform(-18, 18, n))
    shear = rng.uniform(-0.25, 0.25, n)
    scale = rng.uniform(1.15, 1.9, (2, n))  # tile pixels per image pixel, across and down
    shift = rng.uniform(-3, 3, (2, n))  # image pixels
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = scale[0] * cos, scale[0] * (shear * cos - sin)
    d, e = scale[1] * sin, scale[1] * (shear * sin + cos)
    middle = SIDE / 2
    c = GLYPH / 2 - a * (middle + shift[0]) - b * (middle + shift[1])
    f = GLYPH / 2 - d * (middle + shift[0]) - e * (middle + shift[1])
    return np.stack([a, b, c, d, e, f], axis=1)
