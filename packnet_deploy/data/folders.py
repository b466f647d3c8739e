"""``imagefolder:`` images on disk as ``DIR/{train,val,test}/CLASS/*.jpg``, the layout of torchvision's ImageFolder.

Classes and files come in ImageFolder's order (class names sorted, then paths sorted), from sub-folders at any depth
and through symbolic links. Unlike ImageFolder, hidden files and folders are passed over, ``valid/`` and ``Test/`` are
found too, and the parts of a set must agree on their classes. Everything wrong with a folder is said before any image
is decoded; what was read otherwise than asked for, or not at all, is in the parts' ``notes``.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from packnet_deploy.data.imageset import PARTS, ImageSet, printable
from packnet_deploy.data.listed import content
from packnet_deploy.data.splits import FileSplit, listing
from packnet_deploy.errors import EnvironmentFault

FOLDER = ""  # none is usual
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
LAYOUT = "train/CLASS/*.jpg beside val/CLASS/*.jpg or test/CLASS/*.jpg"
CALLED = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it (``imageset.Layout``).

    The whole set is ``train/`` and at least one of ``val/`` and ``test/``. Alone, ``test`` means ``test/``, else
    ``val/``, which would give the final figure too, else, in a folder without any of the three parts, the folder
    itself with its sub-folders as classes.
    """
    if part is not None:
        classes, images = _read_alone(folder, part)
        return ImageSet(classes, {part: images}, named="{}/")
    found = {name: path for name in PARTS if (path := part_folder(folder, name)) is not None}
    if "train" not in found or len(found) < 2:
        raise EnvironmentFault(f"{folder}: expected {LAYOUT}, {content(folder)}")
    where = found.pop("train")
    classes, train = read_part(where)
    if len(classes) < 2:
        raise EnvironmentFault(f"{where}: expected one folder for each of two or more classes, got only {classes[0]!r}")
    parts = {"train": train}
    for name, path in found.items():
        other_classes, images = read_part(path)
        require_same_classes(folder, classes, name, other_classes)
        parts[name] = images if path.name == name else images.noted(f"{path} was taken for {name}/")
    return ImageSet(classes, parts, named="{}/")


def part_folder(folder: Path, part: str) -> Path | None:
    """The folder of a part under any of the names it goes by, in any case; its own name comes first."""
    if (folder / part).is_dir():
        return folder / part
    if not folder.is_dir():
        return None
    there = {entry.name.lower(): Path(entry.path) for entry in reversed(visible(folder)) if entry.is_dir()}
    return next((there[name] for name in CALLED[part] if name in there), None)


def _read_alone(folder: Path, part: str) -> tuple[tuple[str, ...], FileSplit]:
    for candidate in (part, "val") if part == "test" else (part,):
        if (found := part_folder(folder, candidate)) is not None:
            classes, images = read_part(found)
            return classes, images if found.name == part else images.noted(f"{found} was taken for {part}/")
    if part == "test" and folder.is_dir() and not any(part_folder(folder, other) for other in PARTS):
        return read_part(folder)
    raise EnvironmentFault(f"{folder}: expected {part}/CLASS/*.jpg, {content(folder)}")


def read_part(folder: Path) -> tuple[tuple[str, ...], FileSplit]:
    """Class names and image files of a folder that holds one sub-folder per class.

    Raises:
        EnvironmentFault: there are no class folders, or one of them holds no images.
    """
    classes = tuple(entry.name for entry in visible(folder) if entry.is_dir())
    if not classes:
        raise EnvironmentFault(f"{folder}: expected one folder of images per class, {content(folder)}")
    paths: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    for label, name in enumerate(classes):
        if not printable(name):
            raise EnvironmentFault(
                f"{folder}: expected class names of printable UTF-8, got the folder {name!a}; rename it"
            )
        found = files_below(folder / name)
        if not found.images:
            raise EnvironmentFault(
                f"{folder / name}: expected images ({' '.join(SUFFIXES)}), {content(folder / name)}; "
                f"add some, or remove the folder"
            )
        paths += found.images
        labels += [label] * len(found.images)
        others += found.others
    split = FileSplit(np.array(labels, np.int64), tuple(paths))
    return classes, split.noted(f"{folder}: {passed_over(others)}") if others else split


class Found(NamedTuple):
    """The visible files of a folder: image files by their suffix, and how many others, by theirs."""

    images: list[str]
    others: Counter[str]


def files_below(folder: Path) -> Found:
    """All visible files at any depth; a folder reached twice through links is read once."""
    found: list[tuple[str, list[str]]] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        shown = visible(current)
        pending += [Path(entry.path) for entry in shown if entry.is_dir()]
        files = [entry for entry in shown if not entry.is_dir()]
        images = [entry.path for entry in files if entry.name.lower().endswith(SUFFIXES)]
        others.update(_suffix(entry.name) for entry in files if not entry.name.lower().endswith(SUFFIXES))
        found.append((str(current), images))
    return Found([path for _, files in sorted(found) for path in files], others)


def passed_over(others: Counter[str]) -> str:
    """How many files were passed over for their suffixes, in words."""
    kinds = ", ".join(
        f"{count:,} {suffix}" for suffix, count in sorted(others.items(), key=lambda item: (-item[1], item[0]))[:5]
    )
    count = others.total()
    return f"{count:,} file{'s' if count > 1 else ''} left out, of no suffix read here ({kinds})"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without"


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder shows, sorted by name, hidden entries left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except FileNotFoundError:
        raise EnvironmentFault(f"{folder}: expected a folder of images, got nothing: it does not exist") from None
    except NotADirectoryError:
        raise EnvironmentFault(f"{folder}: expected a folder of images, got a file") from None
    except OSError as error:
        raise EnvironmentFault(f"{folder}: expected a readable folder, got: {error.strerror or error}") from error


def require_same_classes(folder: Path, train: tuple[str, ...], part: str, other: tuple[str, ...]) -> None:
    missing, extra = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if missing or extra:
        differences = [f"{part}/ lacks {listing(missing)}"] if missing else []
        differences += [f"only {part}/ has {listing(extra)}"] if extra else []
        raise EnvironmentFault(
            f"{folder}: expected the same classes in train/ and {part}/, got: {'; '.join(differences)}; "
            f"rename, add or remove class folders"
        )
