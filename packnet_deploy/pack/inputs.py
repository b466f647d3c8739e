"""How an image becomes a network's input, and the probe batch every export is held against.

Covers the input description (what is cut, turned and framed, resize rule, normalisation), its hash, and the
integer-generated probe images of docs/format.md. Doing what it says, from an image file on, is packnet_deploy.data's
business.
"""

from __future__ import annotations

import hashlib
import math
import reprlib
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError

PROBE_IMAGES = 4
PROBE_CELL = 4  # side of a probe image's square cells, pixels

FRAMINGS = ("crop", "whole", "pad")
MAX_SIDE = 1 << 14
MAX_NUMBERS = 1 << 24  # of one image
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

# What a description without the field means: the images were treated so before there was one.
_UNSAID: dict[str, Any] = {"framing": "crop", "fill": 0, "boxes": False, "exif_orientation": False}
_KINDS = {str: "a text", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the input of a network: RGB or grey, channels first.

    In this order: cut to its bounding box (``boxes``), turned upright (``exif_orientation``), brought to the shape
    (``framing``; bilinear, antialiased), scaled to 0..1 and normalised, ``(pixel / 255 - mean) / std`` in float32.
    docs/format.md is the specification. The shape is the network's and all tasks'; the rest may be a task's own.

    Attributes:
        shape: channels, height, width.
        resize: pixels of the shorter side before the framing ``crop`` cuts; the others do not use it.
        framing: ``crop``: the shorter side becomes ``resize`` long, and the centre is cut out. ``whole``: squashed to
            the input, whatever the aspect. ``pad``: the longer side fits, the rest is filled evenly on both sides.
        fill: the level, 0..255 in every channel, of what an image does not reach.
        boxes: images of a set with bounding boxes are cut to them first.
        exif_orientation: images are turned the way that their EXIF data says; else they are seen as they are stored.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    layout: str = "NCHW"
    framing: str = "crop"
    fill: int = 0
    boxes: bool = False
    exif_orientation: bool = True

    def __post_init__(self) -> None:
        shape, channels = self.shape, self.shape[0] if self.shape else 0
        if len(shape) != 3 or channels not in (1, 3) or not all(1 <= s <= MAX_SIDE for s in shape):
            raise ArtefactError(f"input shape: expected [1 or 3, height, width], got {list(shape)}")
        if math.prod(shape) > MAX_NUMBERS:
            raise ArtefactError(f"input shape: expected at most {MAX_NUMBERS:,} numbers, got {list(shape)}")
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
        if self.framing not in FRAMINGS:
            raise ArtefactError(f"input framing: expected one of {', '.join(FRAMINGS)}, got {_short(self.framing)}")
        if not 0 <= self.fill <= 255:
            raise ArtefactError(f"input fill: expected 0..255, got {self.fill}")

    def framed(self, framing: str | None, boxes: bool) -> InputSpec:
        """The description for a set of images that has bounding ``boxes`` or has none.

        Args:
            framing: as asked for; by default what has been cut to its box is framed whole, and all else as here.
        """
        return replace(self, framing=framing or ("whole" if boxes else self.framing), boxes=boxes)

    def sized(self, side: int) -> InputSpec:
        """The description for a square input of ``side`` pixels; ``resize`` grows in proportion."""
        channels, height, width = self.shape
        return replace(self, shape=(channels, side, side), resize=round(self.resize * side / min(height, width)))

    def to_json(self) -> dict[str, Any]:
        """Everything that a stranger needs to make the input, what never differs included."""
        fields = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        return fields | _never_differing(self.shape[0])

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> InputSpec:
        """Parse an input description: ``input`` of pack.json, of a delta, of a plan's sidecar, of an export.

        Raises:
            ArtefactError: a key is missing or has the wrong type or range; names ``where``.
        """
        try:
            shape, mean, std, resize = value["shape"], value["mean"], value["std"], value["resize"]
            if not all(type(s) is int for s in (*shape, resize)) or not all(
                type(number) in (int, float) for number in (*mean, *std)
            ):
                raise TypeError("a number is not a number, or not a whole one")
            said = {name: _of_type(name, value.get(name, unsaid), type(unsaid)) for name, unsaid in _UNSAID.items()}
            spec = cls(
                shape=tuple(shape),
                mean=tuple(float(m) for m in mean),
                std=tuple(float(s) for s in std),
                resize=resize,
                layout=str(value["layout"]),
                **said,
            )
            for name, only in _never_differing(spec.shape[0]).items():
                if _of_type(name, value.get(name, only), type(only)) != only:
                    raise ArtefactError(f"input {name}: expected {only!r}, got {_short(value[name])}")
            return spec
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
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
        for name, unsaid in _UNSAID.items():
            if (said := getattr(self, name)) != unsaid:
                text += f"{name} {str(said).lower()}\n"
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 images ``[n, c, h, w]`` to the network's float32 input of the same shape."""
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        images = pixels.astype(np.float32)
        images /= np.float32(255)
        images -= mean
        images /= std
        return images


def _never_differing(channels: int) -> dict[str, Any]:
    """What every description says and none chooses."""
    return {"colours": "RGB" if channels == 3 else "L", "scale": 255, "interpolation": "bilinear"}


def _of_type(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ArtefactError(f"input {name}: expected {_KINDS[kind]}, got {_short(value)}")
    return value


def _short(value: object) -> str:
    return reprlib.repr(value)


def probe_pixels(spec: InputSpec, count: int = PROBE_IMAGES) -> npt.NDArray[np.uint8]:
    """The probe images, uint8 ``[count, c, h, w]``: squares of ``PROBE_CELL`` pixels, each of a hashed grey value.

    Integer arithmetic modulo 2**32 only (docs/format.md), so that every language makes the same pixels.
    """
    channels, height, width = spec.shape
    pixels = np.empty((count, channels, height, width), np.uint8)
    y, x = np.ogrid[:height, :width]
    for plane in np.ndindex(count, channels):  # one at a time: the numbers take four times the room of the pixels
        index = ((plane[0] * channels + plane[1]) * MAX_SIDE + y // PROBE_CELL) * MAX_SIDE + x // PROBE_CELL
        state = index.astype(np.uint32) + np.uint32(0x9E3779B9)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            state = (state ^ (state >> np.uint32(shift))) * np.uint32(factor)
        pixels[plane] = (state ^ (state >> np.uint32(16))) >> np.uint32(24)
    return pixels


def probe_batch(spec: InputSpec) -> npt.NDArray[np.float32]:
    """The normalised probe batch, float32 ``[PROBE_IMAGES, c, h, w]``."""
    return spec.normalise(probe_pixels(spec))
