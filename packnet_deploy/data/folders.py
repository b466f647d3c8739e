"""Image folders on disk: ``DIR/{train,val,test}/CLASS/*.jpg``, the layout of torchvision's ImageFolder.

Classes and files come in ImageFolder's order (class names sorted, then paths sorted), from sub-folders at any depth
and through symbolic links. Unlike ImageFolder, hidden files and folders are passed over, and the parts of a set
must agree on their classes. Everything wrong with a folder is said before any image is decoded.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np

from packnet_deploy.data.splits import VAL_FRACTION, FileSplit, TaskData, listing, stratified_split
from packnet_deploy.errors import EnvironmentFault

PARTS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
UNWRITABLE = ("Cc", "Cs")  # control characters, and bytes that are no UTF-8: a manifest cannot hold the latter
LAYOUT = "train/CLASS/*.jpg beside val/CLASS/*.jpg or test/CLASS/*.jpg"


def open_folder(folder: Path, seed: int = 0, val_fraction: float = VAL_FRACTION) -> TaskData:
    """The task kept in ``folder``: ``train/`` and at least one of ``val/`` and ``test/``.

    With both, they are used as they are. With one only, it gives the final figure, and ``val`` is a seeded
    stratified part of ``train/`` that is then not trained on: what selects a model never measures it.

    Raises:
        EnvironmentFault: the folder is missing or laid out otherwise, a class has no images, or the parts
            differ in their classes.
    """
    found = [part for part in PARTS if (folder / part).is_dir()]
    if "train" not in found or len(found) < 2:
        raise EnvironmentFault(f"{folder}: expected {LAYOUT}, {_content(folder)}")
    classes, train = read_part(folder / "train")
    if len(classes) < 2:
        raise EnvironmentFault(
            f"{folder / 'train'}: expected one folder for each of two or more classes, got only {classes[0]!r}"
        )
    others: dict[str, FileSplit] = {}
    for part in found[1:]:
        other_classes, others[part] = read_part(folder / part)
        _require_same_classes(folder, classes, part, other_classes)
    if len(others) == 2:
        return TaskData(
            classes, train, others["val"], others["test"], True, str(folder), val_from="val/", test_from="test/"
        )
    (part, test), *_ = others.items()
    kept, drawn = stratified_split(train.labels, val_fraction, seed)
    if not len(drawn):
        raise EnvironmentFault(
            f"{folder / 'train'}: expected two images or more in some class to hold out for selection, "
            f"got one in each of {len(classes)} classes; add images, or a val/ and a test/ folder"
        )
    return TaskData(
        classes,
        train.subset(kept),
        train.subset(drawn),
        test,
        flip=True,
        source=str(folder),
        val_from=f"held out of train/, seed {seed}",
        test_from=f"{part}/",
    )


def open_folder_part(folder: Path, part: str) -> tuple[tuple[str, ...], FileSplit]:
    """One part of a folder, for evaluation: classes and images.

    ``test`` means ``test/``, else ``val/`` (as for ``open_folder``), else, in a folder without any of the three
    parts, the folder itself with its sub-folders as classes.

    Raises:
        EnvironmentFault: the part is not there, or is laid out otherwise.
    """
    for candidate in (part, "val") if part == "test" else (part,):
        if (folder / candidate).is_dir():
            return read_part(folder / candidate)
    if part == "test" and not any((folder / other).is_dir() for other in PARTS):
        return read_part(folder)
    raise EnvironmentFault(f"{folder}: expected {part}/CLASS/*.jpg, {_content(folder)}")


def read_part(folder: Path) -> tuple[tuple[str, ...], FileSplit]:
    """Class names and image files of a folder that holds one sub-folder per class.

    Raises:
        EnvironmentFault: there are no class folders, or one of them holds no images.
    """
    classes = tuple(entry.name for entry in _entries(folder) if entry.is_dir())
    if not classes:
        raise EnvironmentFault(f"{folder}: expected one folder of images per class, {_content(folder)}")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if any(unicodedata.category(character) in UNWRITABLE for character in name):
            raise EnvironmentFault(
                f"{folder}: expected class names of printable UTF-8, got the folder {name!a}; rename it"
            )
        files = _images_below(folder / name)
        if not files:
            raise EnvironmentFault(
                f"{folder / name}: expected images ({' '.join(SUFFIXES)}), {_content(folder / name)}; "
                f"add some, or remove the folder"
            )
        paths += files
        labels += [label] * len(files)
    return classes, FileSplit(np.array(labels, np.int64), tuple(paths))


def _images_below(folder: Path) -> list[str]:
    """Paths of all visible image files at any depth; a folder reached twice through links is read once."""
    found: list[tuple[str, list[str]]] = []
    seen: set[str] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        entries = _entries(current)
        pending += [Path(entry.path) for entry in entries if entry.is_dir()]
        found.append((str(current), [e.path for e in entries if e.name.lower().endswith(SUFFIXES) and not e.is_dir()]))
    return [path for _, files in sorted(found) for path in files]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
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


def _content(folder: Path) -> str:
    """What a folder holds instead of what was expected, in words."""
    entries = _entries(folder)
    folders = [entry.name for entry in entries if entry.is_dir()]
    files = len(entries) - len(folders)
    words = [f"the folders {listing(folders)}"] if folders else []
    words += [f"{files} file{'s' if files > 1 else ''}"] if files else []
    return "got " + (" and ".join(words) or "an empty folder")


def _require_same_classes(folder: Path, train: tuple[str, ...], part: str, other: tuple[str, ...]) -> None:
    missing, extra = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if missing or extra:
        differences = [f"{part}/ lacks {listing(missing)}"] if missing else []
        differences += [f"only {part}/ has {listing(extra)}"] if extra else []
        raise EnvironmentFault(
            f"{folder}: expected the same classes in train/ and {part}/, got: {'; '.join(differences)}; "
            f"rename, add or remove class folders"
        )
