"""Small image folders to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Writer = Callable[..., Path]


@pytest.fixture
def write_set(tmp_path: Path) -> Writer:
    """``write_set(train={"cat": 3, "dog": 2}, test=...)`` writes such a set and returns its folder."""

    def write(name: str = "set", **parts: dict[str, int]) -> Path:
        root, shade = tmp_path / name, 0
        for part, classes in parts.items():
            for label, count in classes.items():
                folder = root / part / label
                folder.mkdir(parents=True)
                for index in range(count):
                    shade += 1
                    pixels = np.full((6, 8, 3), shade % 256, np.uint8)
                    Image.fromarray(pixels).save(folder / f"{index:03}.png")
        return root

    return write
