"""``cub200:`` Caltech-UCSD Birds-200-2011, cropped to its bounding boxes, as in the paper (section 4).

Classes come in the order of classes.txt. train_test_split.txt says which images train; there are no validation images
of its own. A box is "x y width height", its corner counted from 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from packnet_deploy.data.annotations import read_by_id, whole_number
from packnet_deploy.data.imageset import ImageSet
from packnet_deploy.data.listed import base_folder, checked_classes, chosen_parts, listed_split
from packnet_deploy.errors import EnvironmentFault

FOLDER = "CUB_200_2011"
LAYOUT = (
    "images/CLASS/*.jpg beside images.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt "
    "and classes.txt"
)


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it (``imageset.Layout``)."""
    root = base_folder(folder, FOLDER, "images.txt", LAYOUT)
    parts = chosen_parts(root, part, ("train", "test"))
    names = read_by_id(root / "images.txt", ("IMAGE-ID", "PATH"), LAYOUT)
    by_class = read_by_id(root / "classes.txt", ("CLASS-ID", "NAME"), LAYOUT)
    if sorted(by_class) != list(range(1, len(by_class) + 1)):
        raise EnvironmentFault(f"{root / 'classes.txt'}: expected class ids 1 to {len(by_class)}, got others")
    classes = checked_classes([by_class[i + 1][0] for i in range(len(by_class))], root / "classes.txt")
    labels = _numbers(root / "image_class_labels.txt", names)
    trains = _numbers(root / "train_test_split.txt", names)
    if not set(trains.values()) <= {0, 1}:
        raise EnvironmentFault(f"{root / 'train_test_split.txt'}: expected 0 or 1, got {max(trains.values())}")
    boxes = _of_images(root / "bounding_boxes.txt", ("IMAGE-ID", "X", "Y", "WIDTH", "HEIGHT"), names)
    splits = {}
    for name in parts:
        images = [image for image in names if trains[image] == (name == "train")]
        splits[name] = listed_split(
            root / "images",
            [names[image][0] for image in images],
            np.array([labels[image] for image in images], np.int64),
            len(classes),
            root / "images.txt",
            np.array([_corners(boxes[image], root / "bounding_boxes.txt") for image in images]).reshape(-1, 4),
        )
    return ImageSet(classes, splits)


def _numbers(path: Path, names: dict[int, Any]) -> dict[int, int]:
    """The one number that a file has for every image."""
    rows = _of_images(path, ("IMAGE-ID", "NUMBER"), names)
    return {image: whole_number(number, path) for image, (number,) in rows.items()}


def _of_images(path: Path, columns: tuple[str, ...], names: dict[int, Any]) -> dict[int, list[str]]:
    """A file's rows by image, one for each."""
    rows = read_by_id(path, columns, LAYOUT)
    if rows.keys() != names.keys():
        image = min(rows.keys() ^ names.keys())
        raise EnvironmentFault(
            f"{path}: expected the images of images.txt, got {'none' if image in names else 'also one'} with id {image}"
        )
    return rows


def _corners(row: list[str], path: Path) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = map(float, row)
    except ValueError:
        raise EnvironmentFault(f"{path}: expected a box of four numbers, got {' '.join(row)!r}") from None
    return x, y, x + width, y + height
