"""Small image folders to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def image_folder(root: Path, classes: int = 2, images: int = 6, seed: int = 0, side: int = 40) -> Path:
    """``root/{train,test}/CLASS/*.png``: each class a colour of its own, with noise."""
    rng = np.random.default_rng(seed)
    for part in ("train", "test"):
        for label in range(classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(images):
                pixels = rng.integers(0, 60, (side, side, 3)) + np.eye(3)[label % 3] * 150
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root
