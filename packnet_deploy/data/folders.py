"""``imagefolder:`` images on disk as ``DIR/{train,val,test}/CLASS/*.jpg``, the layout of torchvision's ImageFolder.

Classes and files come in ImageFolder's order (class names sorted, then paths sorted), from sub-folders at any depth
and through symbolic links. Unlike ImageFolder, hidden files and folders are passed over, and the parts of a set
must agree on their classes. Everything wrong with a folder is said before any image is decoded.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from packnet_deploy.data.imageset import PARTS, ImageSet, printable
from packnet_deploy.data.listed import content
from packnet_deploy.data.splits import FileSplit, listing
from packnet_deploy.errors import EnvironmentFault

FOLDER = ""  # none is usual
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
LAYOUT = "train/CLASS/*.jpg beside val/CLASS/*.jpg or test/CLASS/*.jpg"


def read(folder: Path, part: str | None) -> ImageSet:
    """The set, or one part of it (``imageset.Layout``).

    The whole set is ``train/`` and at least one of ``val/`` and ``test/``. Alone, ``test`` means ``test/``, else
    ``val/``, which would give the final figure too, else, in a folder without any of the three parts, the folder
    itself with its sub-folders as classes.
    """
    if part is not None:
        classes, images = _read_alone(folder, part)
        return ImageSet(classes, {part: images}, named="{}/")
    found = [name for name in PARTS if (folder / name).is_dir()]
    if "train" not in found or len(found) < 2:
        raise EnvironmentFault(f"{folder}: expected {LAYOUT}, {content(folder)}")
    classes, train = read_part(folder / "train")
    if len(classes) < 2:
        raise EnvironmentFault(
            f"{folder / 'train'}: expected one folder for each of two or more classes, got only {classes[0]!r}"
        )
    parts = {"train": train}
    for name in found[1:]:
        other_classes, parts[name] = read_part(folder / name)
        require_same_classes(folder, classes, name, other_classes)
    return ImageSet(classes, parts, named="{}/")


def _read_alone(folder: Path, part: str) -> tuple[tuple[str, ...], FileSplit]:
    for candidate in (part, "val") if part == "test" else (part,):
        if (folder / candidate).is_dir():
            return read_part(folder / candidate)
    if part == "test" and folder.is_dir() and not any((folder / other).is_dir() for other in PARTS):
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
    for label, name in enumerate(classes):
        if not printable(name):
            raise EnvironmentFault(
                f"{folder}: expected class names of printable UTF-8, got the folder {name!a}; rename it"
            )
        files = _images_below(folder / name)
        if not files:
            raise EnvironmentFault(
                f"{folder / name}: expected images ({' '.join(SUFFIXES)}), {content(folder / name)}; "
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
        shown = visible(current)
        pending += [Path(entry.path) for entry in shown if entry.is_dir()]
        found.append((str(current), [e.path for e in shown if e.name.lower().endswith(SUFFIXES) and not e.is_dir()]))
    return [path for _, files in sorted(found) for path in files]


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
