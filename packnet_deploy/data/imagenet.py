"""``imagenet:`` ILSVRC 2012 classification, with the validation images in class folders or, as they come, in one.

Classes are called by their WordNet ids, in whose order networks in circulation count them; their English names are
not unique (two are "crane"). As in the paper, ``val/`` gives the final figure.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from packnet_deploy.data import folders
from packnet_deploy.data.annotations import MatFile, read_table, whole_number
from packnet_deploy.data.imageset import ImageSet
from packnet_deploy.data.listed import base_folder, checked_classes, chosen_parts, listed_split
from packnet_deploy.data.splits import FileSplit
from packnet_deploy.errors import EnvironmentFault

FOLDER = "imagenet"
DEVKIT = "ILSVRC2012_devkit_t12/data"
LAYOUT = (
    "train/n01440764/*.JPEG and val/n01440764/*.JPEG, or val/ILSVRC2012_val_00000001.JPEG with "
    f"{DEVKIT}/meta.mat and {DEVKIT}/ILSVRC2012_validation_ground_truth.txt"
)
WORDNET_ID = re.compile(r"n\d{8}")
VAL_FRACTION = 0.02  # of 1.28 million; more would cost training images and minutes an epoch


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it; ``test`` means ``val`` (``imageset.Layout``)."""
    root = base_folder(folder, FOLDER, "val" if part != "train" else "train", LAYOUT)
    parts = chosen_parts(root, "val" if part == "test" else part, ("train", "val"))
    if not (root / parts[0]).is_dir():
        raise EnvironmentFault(f"{root / parts[0]}: expected a folder, it does not exist; the layout is {LAYOUT}")
    found = {name: _read_val(root) if name == "val" else folders.read_part(root / name) for name in parts}
    classes = found[parts[0]][0]
    others = [name for name in classes if not WORDNET_ID.fullmatch(name)]
    if others:
        raise EnvironmentFault(
            f"{root / parts[0]}: expected class folders named by WordNet id (n01440764), got {others[0]!r}; "
            f"use imagefolder:{root}"
        )
    if part is None:
        folders.require_same_classes(root, classes, "val", found["val"][0])
    splits = {name: split for name, (_, split) in found.items()}
    return ImageSet(classes, splits, named="{}/", val_fraction=VAL_FRACTION, standard_order=True)


def _read_val(root: Path) -> tuple[tuple[str, ...], FileSplit]:
    """Classes and images of ``val/``, by its class folders or by the devkit's ground truth, a class id a line."""
    if any(entry.is_dir() for entry in folders.visible(root / "val")):
        return folders.read_part(root / "val")
    truth = root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt"
    ids = np.array([whole_number(row[0], truth) for row in read_table(truth, ("CLASS-ID",), LAYOUT)], np.int64)
    meta = root / DEVKIT / "meta.mat"
    synsets = MatFile(meta, LAYOUT).records("synsets", ("ILSVRC2012_ID", "num_children"), ("WNID",))
    leaves = synsets["num_children"] == 0  # the others are groups of classes
    names = checked_classes([name for name, leaf in zip(synsets["WNID"], leaves, strict=True) if leaf], meta)
    classes = tuple(sorted(names))
    label = dict(zip(synsets["ILSVRC2012_ID"][leaves].tolist(), map(classes.index, names), strict=True))
    unknown = [number for number in ids.tolist() if number not in label]
    if unknown:
        raise EnvironmentFault(f"{truth}: expected class ids of {meta}, got {unknown[0]}")
    files = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(ids) + 1)]
    labels = np.array([label[number] for number in ids.tolist()], np.int64)
    return classes, listed_split(root / "val", files, labels, len(classes), truth, first=0)
