"""``flowers102:`` Oxford 102 Flowers in torchvision's layout.

Trained on the set's training and validation images together, 2,040 as in the paper, out of which selection gets its
own as from any other set; its test images are the final figure. The files number the classes and do not name them:
they are called "1" to "102".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from packnet_deploy.data.annotations import MatFile
from packnet_deploy.data.imageset import ImageSet
from packnet_deploy.data.listed import base_folder, checked_classes, chosen_parts, listed_split
from packnet_deploy.errors import EnvironmentFault

FOLDER = "flowers-102"
LAYOUT = "jpg/image_00001.jpg ... beside imagelabels.mat and setid.mat"


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it (``imageset.Layout``)."""
    root = base_folder(folder, FOLDER, "jpg", LAYOUT)
    parts = chosen_parts(root, part, ("train", "test"))
    source = root / "imagelabels.mat"
    labels = MatFile(source, LAYOUT).numbers("labels")
    classes = checked_classes([str(i + 1) for i in range(max(labels, default=0))], source)
    ids = _ids(root / "setid.mat", len(labels))
    splits = {}
    for name in parts:
        images = ids[name]
        files = [f"image_{image:05}.jpg" for image in images]
        splits[name] = listed_split(root / "jpg", files, labels[images - 1], len(classes), source)
    return ImageSet(classes, splits)


def _ids(path: Path, count: int) -> dict[str, np.ndarray]:
    """Image numbers, 1 to ``count``, of either part; no image is in both."""
    sets = MatFile(path, LAYOUT)
    ids = {
        "train": np.concatenate([sets.numbers("trnid"), sets.numbers("valid")]),
        "test": sets.numbers("tstid"),
    }
    every = np.concatenate([ids["train"], ids["test"]])
    if len(every) and not 1 <= every.min() <= every.max() <= count:
        raise EnvironmentFault(f"{path}: expected image numbers 1 to {count}, got {every.min()} to {every.max()}")
    if len(np.unique(every)) < len(every):
        raise EnvironmentFault(f"{path}: expected every image in one part, got some in two")
    return ids
