"""Images as users hand them over, decoded once and made the input of one task or several.

What an image is turned, framed and cut to is ``data/preprocess.py``'s business.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.folders import files_below, passed_over
from packnet_deploy.data.pillow import in_rgb, pillow, read_rgb
from packnet_deploy.data.preprocess import Pixels, centre
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack.inputs import InputSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | os.PathLike[str] | IO[bytes] | Image | npt.NDArray[np.uint8]


def name_of(image: ImageLike) -> str:
    """How messages and results call an image."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    return str(getattr(image, "filename", "") or getattr(image, "name", "") or "the image")


def inputs_of(image: ImageLike, specs: Iterable[InputSpec]) -> dict[InputSpec, Pixels]:
    """An image as every one of ``specs`` wants it, uint8 ``[c, h, w]``; it is decoded once.

    It is seen whole, whether a task was trained on bounding boxes or not: here is nobody who knows the box.

    Raises:
        EnvironmentFault: it cannot be read, or Pillow is missing.
        UsageError: an array of another shape or type than an image's.
    """
    image = _decoded(image)
    return {spec: centre(image, spec) for spec in specs}


def files_of(path: Path) -> list[Path]:
    """The image at a path, or every one below a folder, sorted by path.

    Raises:
        EnvironmentFault: nothing is there, or no image.
    """
    if not path.is_dir():
        if not path.exists():
            raise EnvironmentFault(f"{path}: expected an image or a folder of images, got nothing: no such file")
        return [path]
    found = files_below(path)
    if not found.images:
        got = passed_over(found.others) if found.others else "got an empty folder"
        raise EnvironmentFault(f"{path}: expected images in this folder, {got}")
    return [Path(name) for name in found.images]


def _decoded(image: ImageLike) -> Image:
    if isinstance(image, np.ndarray):
        return _from_array(image)
    try:
        if isinstance(image, pillow().Image):
            return in_rgb(image)
        return read_rgb(image)  # type: ignore[arg-type]  # mypy does not know what pillow() has told apart
    except ValueError as error:
        raise EnvironmentFault(f"{name_of(image)}: expected a readable image, got: {error}") from error


def _from_array(pixels: npt.NDArray[np.uint8]) -> Image:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise UsageError(
            f"image: expected uint8 [height, width, 3] in RGB, or [height, width] in grey, "
            f"got {pixels.dtype} {list(pixels.shape)}"
        )
    image: Image = pillow().fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    return image
