"""Image folders with something to learn in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


@pytest.fixture
def coloured(tmp_path: Path) -> Callable[..., Path]:
    """``coloured("set", classes=2, train=8, test=4)`` writes noisy images of one colour a class, in folders."""

    def write(name: str = "set", classes: int = 2, side: int = 20, **parts: int) -> Path:
        rng = np.random.default_rng(0)
        for part, count in (parts or {"train": 10, "test": 4}).items():
            for label, colour in list(COLOURS.items())[:classes]:
                folder = tmp_path / name / part / label
                folder.mkdir(parents=True)
                for index in range(count):
                    pixels = np.clip(rng.normal(colour, 25, (side, side, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{index:02}.png")
        return tmp_path / name

    return write
