"""Images that a data set's own files list, beside their classes and bounding boxes: checked, then a ``FileSplit``.

The lists come with the data set and are still treated as anybody's: names stay inside the folder, files must be
there, labels in range and boxes not empty. Reading the lists is annotations.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.imageset import printable
from packnet_deploy.data.splits import FileSplit, listing
from packnet_deploy.errors import EnvironmentFault, UsageError

MAX_COORDINATE = 1 << 20  # pixels


def base_folder(folder: Path, usual: str, marker: str, layout: str) -> Path:
    """``folder``, or the folder of the ``usual`` name in it: the one that holds ``marker``.

    Raises:
        EnvironmentFault: neither does.
    """
    for candidate in (folder, folder / usual):
        if (candidate / marker).exists():
            return candidate
    raise EnvironmentFault(f"{folder}: expected {layout}, {content(folder)}")


def content(folder: Path) -> str:
    """What is there instead of what was expected, in words."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return "got nothing: it does not exist"
    except NotADirectoryError:
        return "got a file"
    except OSError as error:
        return f"got: {error.strerror or error}"
    folders = [name for name, is_folder in names if is_folder]
    files = len(names) - len(folders)
    words = [f"the folders {listing(folders)}"] if folders else []
    words += [f"{files} file{'s' if files > 1 else ''}"] if files else []
    return "got " + (" and ".join(words) or "an empty folder")


def chosen_parts(where: Path, part: str | None, own: tuple[str, ...]) -> tuple[str, ...]:
    """All of a set's ``own`` parts, or the one asked for.

    Raises:
        UsageError: the set has no such part.
    """
    if part is not None and part not in own:
        raise UsageError(f"split: expected one of {', '.join(own)}, which {where} has, got {part!r}")
    return own if part is None else (part,)


def checked_classes(names: Sequence[str], source: Path) -> tuple[str, ...]:
    """``names``, if they are printable, all different and two or more.

    Raises:
        EnvironmentFault: they are not.
    """
    bad = [name for name in names if not printable(name)]
    if bad:
        raise EnvironmentFault(f"{source}: expected class names of printable UTF-8, got {bad[0]!a}")
    if len(names) < 2 or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        found = f"{listing(twice)} twice" if twice else f"{len(names)}"
        raise EnvironmentFault(f"{source}: expected two or more different class names, got {found}")
    return tuple(names)


def listed_split(
    folder: Path,
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    classes: int,
    source: Path,
    boxes: npt.NDArray[np.float64] | None = None,
    first: int = 1,
) -> FileSplit:
    """Images in ``folder``, as ``source`` lists them.

    Args:
        names: paths in ``folder``, with slashes.
        labels: int64 ``[n]``, as the list counts them, from ``first`` on.
        boxes: float64 ``[n, 4]``: left, top, right, bottom in pixels, the last two exclusive. Fractions count as
            whole pixels.

    Raises:
        EnvironmentFault: nothing is listed, a label is out of range, a box is empty, a name leads out of the folder,
            or files are missing.
    """
    if not names:
        raise EnvironmentFault(f"{source}: expected images, it lists none")
    last = first + classes - 1
    outside = np.flatnonzero((labels < first) | (labels > last))
    if len(outside):
        name, label = names[outside[0]], labels[outside[0]]
        raise EnvironmentFault(f"{source}: image {name!r}: expected class {first} to {last}, got {label}")
    paths = _paths(folder, names, source)
    return FileSplit(labels - first, paths, _whole_pixels(boxes, names, source))


def _whole_pixels(
    boxes: npt.NDArray[np.float64] | None, names: Sequence[str], source: Path
) -> npt.NDArray[np.int64] | None:
    if boxes is None:
        return None
    with np.errstate(invalid="ignore"):
        sound = np.all(np.abs(boxes) <= MAX_COORDINATE, axis=1)  # false for NaN
        sound &= (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    bad = np.flatnonzero(~sound)
    if len(bad):
        left, top, right, bottom = boxes[bad[0]].tolist()
        raise EnvironmentFault(
            f"{source}: image {names[bad[0]]!r}: expected a bounding box that is not empty, "
            f"got {left:g} to {right:g} across and {top:g} to {bottom:g} down"
        )
    return np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.int64)


def _paths(folder: Path, names: Sequence[str], source: Path) -> tuple[str, ...]:
    """Where the files are; one whose name differs in capitals only, as copying through some systems does, will do.

    Each folder is listed once: asking for every file by itself takes minutes on a network drive.
    """
    on_disk: dict[str, dict[str, str]] = {}
    paths: list[str] = []
    missing: list[str] = []
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise EnvironmentFault(f"{source}: expected names of files in {folder}, got {name!r}")
        parent, _, file = name.rpartition("/")
        if parent not in on_disk:
            on_disk[parent] = _files(folder / parent)
        found = on_disk[parent].get(file) or on_disk[parent].get(file.lower())
        if found is None:
            missing.append(name)
        else:
            paths.append(os.path.join(folder, parent, found))
    if missing:
        raise EnvironmentFault(
            f"{folder / missing[0]}: expected the image that {source} lists, got nothing; "
            f"{len(missing):,} of {len(names):,} are missing: unpack the images again"
        )
    return tuple(paths)


def _files(folder: Path) -> dict[str, str]:
    """File names in a folder, by themselves and by their lower case."""
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    return {name.lower(): name for name in names} | {name: name for name in names}
