"""``cars:`` Stanford Cars (2013), cropped to its bounding boxes, as in the paper (section 4).

Classes have their names from cars_meta.mat and its order. There are no validation images of its own. The boxes are
read as MATLAB's, counted from 1 with both corners inside; the devkit does not say so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from packnet_deploy.data.annotations import MatFile
from packnet_deploy.data.imageset import ImageSet
from packnet_deploy.data.listed import base_folder, checked_classes, chosen_parts, listed_split
from packnet_deploy.data.splits import FileSplit

FOLDER = "stanford_cars"
LAYOUT = (
    "cars_train/*.jpg, cars_test/*.jpg, devkit/cars_meta.mat, devkit/cars_train_annos.mat and "
    "cars_test_annos_withlabels.mat, the last in devkit/ or beside it"
)
CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it (``imageset.Layout``)."""
    root = base_folder(folder, FOLDER, "devkit", LAYOUT)
    meta = root / "devkit" / "cars_meta.mat"
    classes = checked_classes(MatFile(meta, LAYOUT).texts("class_names"), meta)
    parts = chosen_parts(root, part, ("train", "test"))
    return ImageSet(classes, {name: _read_part(root, name, len(classes)) for name in parts})


def _read_part(root: Path, part: str, classes: int) -> FileSplit:
    path = root / "devkit" / "cars_train_annos.mat"
    if part == "test":
        name = "cars_test_annos_withlabels.mat"
        path = root / name if (root / name).exists() else root / "devkit" / name
    found = MatFile(path, LAYOUT).records("annotations", (*CORNERS, "class"), ("fname",))
    boxes = np.stack([found[corner] for corner in CORNERS], axis=1) - [1, 1, 0, 0]
    return listed_split(root / f"cars_{part}", found["fname"], found["class"], classes, path, boxes.astype(np.float64))
