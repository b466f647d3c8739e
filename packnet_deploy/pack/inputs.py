"""What a pack's network takes as input, and the probe batch every export is held against.

Covers the input description (shape, normalisation, resize rule), its hash, and the integer-generated probe images
of docs/format.md. Decoding image files is packnet_deploy.data's business.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError

PROBE_IMAGES = 4
PROBE_CELL = 4  # side of a probe image's square cells, pixels

MAX_SIDE = 1 << 14
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class InputSpec:
    """The input of every task of a pack: RGB or grey images, channels first.

    An image is resized so that its shorter side has ``resize`` pixels (bilinear, antialiased), its centre
    ``shape[1] x shape[2]`` cut out, scaled to 0..1, then normalised: ``(pixel / 255 - mean) / std`` in float32.
    """

    shape: tuple[int, int, int]  # channels, height, width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        shape, channels = self.shape, self.shape[0] if self.shape else 0
        if len(shape) != 3 or channels not in (1, 3) or not all(1 <= s <= MAX_SIDE for s in shape):
            raise ArtefactError(f"input shape: expected [1 or 3, height, width], got {list(shape)}")
        if self.layout != "NCHW":
            raise ArtefactError(f"input layout: expected NCHW, got {self.layout!r}")
        if len(self.mean) != channels or len(self.std) != channels:
            raise ArtefactError(
                f"input mean/std: expected {channels} numbers each, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(abs(m) <= _MOST for m in self.mean) or not all(_LEAST <= s <= _MOST for s in self.std):
            raise ArtefactError("input mean/std: expected finite float32 numbers, std above 0")
        if not 1 <= self.resize <= MAX_SIDE:
            raise ArtefactError(f"input resize: expected 1..{MAX_SIDE} pixels, got {self.resize}")

    def to_json(self) -> dict[str, Any]:
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> InputSpec:
        """Parse the ``input`` object of pack.json.

        Raises:
            ArtefactError: a key is missing or has the wrong type or range; names ``where``.
        """
        try:
            shape, mean, std, resize = value["shape"], value["mean"], value["std"], value["resize"]
            if not all(type(s) is int for s in (*shape, resize)) or not all(
                type(number) in (int, float) for number in (*mean, *std)
            ):
                raise TypeError("a number is not a number, or not a whole one")
            return cls(
                shape=tuple(shape),
                mean=tuple(float(m) for m in mean),
                std=tuple(float(s) for s in std),
                resize=resize,
                layout=str(value["layout"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(f"{where}: input description is malformed ({error!r})") from error
        except ArtefactError as error:
            raise ArtefactError(f"{where}: {error}") from error

    @property
    def sha256(self) -> str:
        """Hash of the description, over text that any language can write byte for byte (docs/format.md)."""

        def bits(values: tuple[float, ...]) -> str:
            return " ".join(struct.pack(">f", v).hex() for v in values)

        text = (
            f"layout {self.layout}\nshape {' '.join(map(str, self.shape))}\n"
            f"mean {bits(self.mean)}\nstd {bits(self.std)}\nresize {self.resize}\n"
        )
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 images ``[n, c, h, w]`` to the network's float32 input of the same shape."""
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def probe_pixels(spec: InputSpec, count: int = PROBE_IMAGES) -> npt.NDArray[np.uint8]:
    """The probe images, uint8 ``[count, c, h, w]``: squares of ``PROBE_CELL`` pixels, each of a hashed grey value.

    Integer arithmetic modulo 2**32 only (docs/format.md), so that every language makes the same pixels.
    """
    channels, height, width = spec.shape
    n, c, y, x = np.ogrid[:count, :channels, :height, :width]
    index = ((n * channels + c) * MAX_SIDE + y // PROBE_CELL) * MAX_SIDE + x // PROBE_CELL
    state = index.astype(np.uint32) + np.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ (state >> np.uint32(shift))) * np.uint32(factor)
    pixels = (state ^ (state >> np.uint32(16))) >> np.uint32(24)
    return np.asarray(pixels, np.uint8)


def probe_batch(spec: InputSpec) -> npt.NDArray[np.float32]:
    """The normalised probe batch, float32 ``[PROBE_IMAGES, c, h, w]``."""
    return spec.normalise(probe_pixels(spec))
