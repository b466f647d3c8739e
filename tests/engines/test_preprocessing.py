"""The pixels that a network sees in C++ are those it sees in Python, by the bit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

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
                spec = InputSpec(shape, (0.5,) * shape[0], (0.5,) * shape[0], resize)
                items.append(
                    {
                        "file": str(file),
                        "width": width,
                        "height": height,
                        "channels": channels,
                        "shape": shape,
                        "resize": resize,
                    }
                )
                expected.append(hashlib.sha256(centre(image, spec).tobytes()).hexdigest())
    (tmp_path / "list.json").write_text(json.dumps(items))
    command = [sanitized / "tests" / "packnet-dump-centre", tmp_path / "list.json"]
    got = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    wrong = [item for item, mine, theirs in zip(items, got, expected, strict=True) if mine != theirs]
    assert not wrong, f"{len(wrong)} of {len(items)}, first: {wrong[0]}"
