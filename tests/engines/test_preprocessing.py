"""The pixels that a network sees in C++ are those it sees in Python, by the bit: every framing, turned or not."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.data.preprocess import centre
from packnet_deploy.pack import InputSpec

pytestmark = pytest.mark.slow

# Width and height: larger and smaller than the cut, upright and lying, odd differences, as large as it, one pixel.
SIZES = [(640, 480), (333, 500), (97, 31), (31, 98), (64, 64), (65, 66), (1, 1), (2, 300), (500, 3), (71, 72)]
# Shape and resize: a cut out of the middle, all of it, one that is larger than the picture, grey.
SPECS = [((3, 56, 56), 64), ((3, 64, 64), 64), ((3, 61, 40), 67), ((3, 90, 75), 50), ((1, 28, 28), 32), ((3, 1, 1), 7)]
FRAMINGS = [("crop", 0), ("crop", 201), ("whole", 0), ("pad", 0), ("pad", 113)]


def spec_of(shape: tuple[int, int, int], resize: int, **said: Any) -> InputSpec:
    return InputSpec(shape, (0.5,) * shape[0], (0.5,) * shape[0], resize, **said)


def dumped(sanitized: Path, folder: Path, items: list[dict[str, Any]]) -> list[str]:
    (folder / "list.json").write_text(json.dumps(items))
    command = [sanitized / "tests" / "packnet-dump-centre", folder / "list.json"]
    got = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(got) == len(items)
    return got


def in_python(image: Image.Image, spec: InputSpec) -> str:
    return hashlib.sha256(centre(image, spec).tobytes()).hexdigest()


def test_pixels_are_pythons(sanitized: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    items, expected = [], []
    for width, height in SIZES:
        for channels in (1, 3):
            pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
            pixels[: height // 2] = rng.choice([0, 255], (height // 2, width, channels))  # sums at the ends of uint8
            file = tmp_path / f"{width}x{height}x{channels}.raw"
            file.write_bytes(pixels.tobytes())
            image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).convert("RGB")
            for shape, resize in SPECS:
                for framing, fill in FRAMINGS:
                    spec = spec_of(shape, resize, framing=framing, fill=fill)
                    picture = {"width": width, "height": height, "channels": channels, "orientation": 1}
                    items.append({"file": str(file), "input": spec.to_json(), **picture})
                    expected.append(in_python(image, spec))
    got = dumped(sanitized, tmp_path, items)
    wrong = [item for item, mine, theirs in zip(items, got, expected, strict=True) if mine != theirs]
    assert not wrong, f"{len(wrong)} of {len(items)}, first: {wrong[0]}"


def test_padded_sizes_are_pythons(sanitized: Path, tmp_path: Path) -> None:
    """Sides that fall between two pixels, for many pairs of sizes: a half is rounded the same way."""
    (tmp_path / "raw").write_bytes(bytes(200) * 200)
    items, expected = [], []
    for width in range(1, 60, 3):
        for height in range(1, 60, 2):
            spec = spec_of((1, 15, 20), 15, framing="pad", fill=255)
            picture = {"width": width, "height": height, "channels": 1, "orientation": 1}
            items.append({"file": str(tmp_path / "raw"), "input": spec.to_json(), **picture})
            expected.append(in_python(Image.new("L", (width, height)), spec))
    assert dumped(sanitized, tmp_path, items) == expected


def test_pictures_are_turned_as_in_python(sanitized: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (30, 44, 3), np.uint8)
    (tmp_path / "raw").write_bytes(pixels.tobytes())
    items, expected = [], []
    for orientation in range(1, 9):
        image = Image.fromarray(pixels)
        image.getexif()[0x0112] = orientation
        for framing in ("crop", "pad"):
            for turns in (True, False):
                spec = spec_of((3, 20, 27), 24, framing=framing, exif_orientation=turns)
                picture = {"width": 44, "height": 30, "channels": 3, "orientation": orientation}
                items.append({"file": str(tmp_path / "raw"), "input": spec.to_json(), **picture})
                expected.append(in_python(image, spec))
    assert len(set(expected)) == 2 * 8  # as they are stored is as orientation 1
    assert dumped(sanitized, tmp_path, items) == expected


def test_jpeg_files_are_held_as_in_python(sanitized: Path, tmp_path: Path) -> None:
    """In either order of bytes, behind other segments, and in files with a byte changed: one that Python reads."""
    image, rng = Image.effect_noise((16, 8), 64), np.random.default_rng(5)
    items, expected = [], []

    def add(file: bytes) -> None:
        path = tmp_path / f"{len(items)}.jpg"
        path.write_bytes(file)
        items.append({"exif": str(path)})

    for orientation in (*range(10), 255):
        for order in ("<", ">"):
            exif = Image.Exif()
            exif.endian = order
            exif[0x010F], exif[0x0112], exif[0x0132] = "a phone", orientation, "2026:01:01 00:00:00"
            path = tmp_path / "made.jpg"
            image.save(path, exif=exif, icc_profile=b"behind it" * 40, comment=b"a comment")
            add(path.read_bytes())
            expected.append(orientation if 1 <= orientation <= 8 else 1)
    whole = bytearray(path.read_bytes())
    for _ in range(300):  # nothing to compare: the sanitizers look
        damaged = whole[: rng.integers(len(whole))] if rng.random() < 0.3 else bytearray(whole)
        for place in rng.integers(0, max(min(len(damaged), 200), 1), 3):
            damaged[place : place + 1] = bytes([rng.integers(256)])
        add(bytes(damaged))
    got = dumped(sanitized, tmp_path, items)
    assert [int(turn) for turn in got[: len(expected)]] == expected
    assert {int(turn) for turn in got} <= set(range(1, 9))
