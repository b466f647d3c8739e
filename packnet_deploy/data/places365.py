"""``places365:`` Places365-Standard, as class folders ("easyformat") or with its file lists, as torchvision keeps it.

As in the paper, the validation images give the final figure: the test images' labels were never published. Where both
sizes are there, the small images (256 x 256) are read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from packnet_deploy.data import folders
from packnet_deploy.data.annotations import read_table, whole_number
from packnet_deploy.data.imageset import ImageSet
from packnet_deploy.data.listed import base_folder, checked_classes, chosen_parts, listed_split
from packnet_deploy.data.splits import FileSplit
from packnet_deploy.errors import EnvironmentFault

FOLDER = "places365_standard"
CATEGORIES = "categories_places365.txt"
LISTS = {"train": "places365_train_standard.txt", "val": "places365_val.txt"}
IMAGES = {  # as torchvision renames them, or as their archives unpack
    "train": ("data_256_standard", "data_256", "data_large_standard", "data_large"),
    "val": ("val_256", "val_large"),
}
LAYOUT = (
    f"train/CLASS/*.jpg and val/CLASS/*.jpg, or {CATEGORIES}, {LISTS['train']}, {LISTS['val']}, "
    "data_256_standard/a/CLASS/*.jpg and val_256/*.jpg (or data_large_standard/, val_large/)"
)
VAL_FRACTION = 0.02  # of 1.8 million


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it; ``test`` means ``val`` (``imageset.Layout``)."""
    parts = chosen_parts(folder, "val" if part == "test" else part, ("train", "val"))
    if any((candidate / CATEGORIES).exists() for candidate in (folder, folder / FOLDER)):
        root = base_folder(folder, FOLDER, CATEGORIES, LAYOUT)
        classes, splits = _read_lists(root, parts)
    else:
        root = base_folder(folder, FOLDER, parts[0], LAYOUT)
        found = {name: folders.read_part(root / name) for name in parts}
        classes = found[parts[0]][0]
        if part is None:
            folders.require_same_classes(root, classes, "val", found["val"][0])
        splits = {name: split for name, (_, split) in found.items()}
    return ImageSet(classes, splits, named="{}/", val_fraction=VAL_FRACTION)


def _read_lists(root: Path, parts: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, FileSplit]]:
    """Classes and images by the file lists, whose lines are a path and the number of a class."""
    path = root / CATEGORIES
    rows = read_table(path, ("/LETTER/CLASS", "NUMBER"), LAYOUT)
    names = {whole_number(number, path): name for name, number in rows}
    if sorted(names) != list(range(len(rows))):
        raise EnvironmentFault(f"{path}: expected {len(rows)} classes numbered from 0, each once, got others")
    # "/a/arena/hockey" is the folder "arena-hockey" of the other layout
    called = ["-".join(names[i].split("/")[2:]) for i in range(len(names))]
    classes = checked_classes(called, path)
    splits = {}
    for part in parts:
        source = root / LISTS[part]
        rows = read_table(source, ("PATH", "CLASS"), LAYOUT)
        folder = next((root / name for name in IMAGES[part] if (root / name).is_dir()), None)
        if folder is None:
            raise EnvironmentFault(
                f"{root / IMAGES[part][0]}: expected a folder, it does not exist; the layout is {LAYOUT}"
            )
        labels = np.array([whole_number(number, source) for _, number in rows], np.int64)
        splits[part] = listed_split(
            folder, [name.lstrip("/") for name, _ in rows], labels, len(classes), source, first=0
        )
    return classes, splits
