"""Opening a data set by what the user typed: a folder, ``LAYOUT:DIR`` or ``builtin:NAME`` (docs/datasets.md).

DIR is looked for from here, then, if it is relative, under ``$PACKNET_DATA``. Without DIR it is the layout's usual
folder under ``$PACKNET_DATA``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from packnet_deploy.data import builtin, cars, cub200, flowers102, folders, imagenet, places365
from packnet_deploy.data.imageset import PARTS, ImageSet, Layout, without_unreadable
from packnet_deploy.data.splits import VAL_FRACTION, ImageSplit, TaskData, relabelled
from packnet_deploy.errors import EnvironmentFault, UsageError

BUILTIN, FOLDER = "builtin", "imagefolder"
LAYOUTS: dict[str, Layout] = {
    FOLDER: folders,
    "imagenet": imagenet,
    "places365": places365,
    "cub200": cub200,
    "cars": cars,
    "flowers102": flowers102,
}
ROOT_VARIABLE = "PACKNET_DATA"


def open_dataset(
    where: str | os.PathLike[str],
    seed: int = 0,
    val_fraction: float | None = None,
    *,
    skip_bad_images: bool = False,
) -> TaskData:
    """The images of one task.

    Args:
        where: a folder (``train/`` and ``val/`` or ``test/``), ``imagefolder:DIR``, another layout's ``NAME:DIR``,
            or ``builtin:digits``, ``builtin:letters``, ``builtin:textures``.
        seed: chooses the images held out of training for selection, where the set brings none of its own. The
            test images do not depend on it.
        val_fraction: part of every class held out in that case; by default what suits the set, a tenth mostly.
        skip_bad_images: decode every image now, and leave those out that cannot be: ``TaskData.skipped`` lists them.

    Raises:
        EnvironmentFault: nothing is there, it is laid out otherwise, a package it needs is missing, or a class has
            no image that can be read.
        UsageError: there is no built-in set or layout of that name.
    """
    scheme, rest = _parse(where)
    if scheme == BUILTIN:
        return builtin.load(rest, seed, VAL_FRACTION if val_fraction is None else val_fraction)
    images, source = _read(scheme, rest, None, skip_bad_images)
    return images.task_data(source, seed, val_fraction)


def open_split(
    where: str | os.PathLike[str],
    split: str = "test",
    seed: int = 0,
    classes: Sequence[str] | None = None,
    *,
    skip_bad_images: bool = False,
) -> tuple[tuple[str, ...], ImageSplit]:
    """One part of a data set, for evaluation; unlike ``open_dataset`` it needs no training images.

    The parts are the set's own, whole: nothing is held out of ``train``. ``test`` of a folder is ``test/``, else
    ``val/``, else the folder's own sub-folders as classes; of ``imagenet:`` and ``places365:`` it is ``val``.

    Args:
        where: as for ``open_dataset``.
        split: ``train``, ``val`` or ``test``.
        seed: as for ``open_dataset``; matters to the built-in sets' ``train`` and ``val`` only.
        classes: the classes of a trained task. Labels are then indices into these, and the set may lack some.
            A network's own 1000 ImageNet classes, whatever they are called, are those of ``imagenet:`` in order.
        skip_bad_images: as for ``open_dataset``; the split's ``skipped`` lists what was left out.

    Returns:
        Class names in the order of the labels, and the images.

    Raises:
        EnvironmentFault: as for ``open_dataset``; or a class is not among ``classes``.
        UsageError: unknown split, built-in set or layout.
    """
    if split not in PARTS:
        raise UsageError(f"split: expected one of {', '.join(PARTS)}, got {split!r}")
    scheme, rest = _parse(where)
    images: ImageSplit
    if scheme == BUILTIN:
        data = builtin.load(rest, seed)
        own, images, standard = data.classes, getattr(data, split), False
    else:
        found, _ = _read(scheme, rest, split, skip_bad_images)
        own, (images,), standard = found.classes, found.parts.values(), found.standard_order
    if classes is None:
        return own, images
    if standard and len(own) == len(classes) and not set(own) & set(classes):
        return tuple(classes), images
    return tuple(classes), relabelled(images, own, classes, os.fspath(where))


def _read(scheme: str, rest: str, part: str | None, skip_bad_images: bool) -> tuple[ImageSet, str]:
    """A set or one part of it, and how to call it."""
    layout = LAYOUTS[scheme]
    folder = _folder(scheme, rest, layout)
    source = str(folder) if scheme == FOLDER else f"{scheme}:{folder}"
    images = layout.read(folder, part)
    return (without_unreadable(images, source) if skip_bad_images else images), source


def _parse(where: str | os.PathLike[str]) -> tuple[str, str]:
    """The part before the colon, which says how to read the rest; and the rest.

    Raises:
        UsageError: there is no built-in set or layout of that name, nor a path.
    """
    text = os.fspath(where)
    scheme, colon, rest = text.partition(":")
    if colon and scheme == BUILTIN:
        return BUILTIN, builtin.known(rest)
    if colon and scheme in LAYOUTS:
        return scheme, rest
    if re.match(r"[a-z0-9]{2,}:", text) and not os.path.exists(text):
        known = ", ".join(f"{name}:" for name in (*LAYOUTS, BUILTIN))
        raise UsageError(f"data {text!r}: expected a folder, or one of {known} before it, got {scheme}:")
    return FOLDER, text


def _folder(scheme: str, given: str, layout: Layout) -> Path:
    """Where a data set is: as given, or under ``$PACKNET_DATA``.

    Raises:
        UsageError: no folder is given and none is usual.
        EnvironmentFault: the folder is in neither place.
    """
    root = os.path.expanduser(os.environ.get(ROOT_VARIABLE, ""))
    if not given and not layout.FOLDER:
        raise UsageError(f"{scheme}: expected {scheme}:DIR, got no folder")
    if not given and not root:
        raise UsageError(
            f"{scheme}: expected {scheme}:DIR, or ${ROOT_VARIABLE} set to the folder that holds {layout.FOLDER}/"
        )
    path = Path(os.path.expanduser(given)) if given else Path(root, layout.FOLDER)
    under = Path(root, path)  # path itself, if that is absolute
    for candidate in (path, under):
        if candidate.exists():
            return candidate
    elsewhere = f", nor does {under} (${ROOT_VARIABLE})" if under != path else ""
    raise EnvironmentFault(f"{path}: expected a folder of images ({layout.LAYOUT}); it does not exist{elsewhere}")
