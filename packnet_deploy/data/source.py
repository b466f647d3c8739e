"""Opening a data set by what the user typed: a folder, ``imagefolder:DIR`` or ``builtin:NAME``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from packnet_deploy.data import builtin, folders
from packnet_deploy.data.splits import VAL_FRACTION, ImageSplit, TaskData, relabelled
from packnet_deploy.errors import UsageError

BUILTIN, IMAGEFOLDER = "builtin:", "imagefolder:"


def open_dataset(where: str | os.PathLike[str], seed: int = 0, val_fraction: float = VAL_FRACTION) -> TaskData:
    """The images of one task.

    Args:
        where: a folder (``train/`` and ``val/`` or ``test/``), ``imagefolder:DIR``, or ``builtin:digits``,
            ``builtin:letters``, ``builtin:textures``.
        seed: chooses the images held out of training for selection, where the set brings none of its own. The
            test images do not depend on it.
        val_fraction: part of every class held out in that case.

    Raises:
        EnvironmentFault: nothing is there, it is laid out otherwise, or a package it needs is missing.
        UsageError: there is no built-in set of that name.
    """
    name, folder = _parse(where)
    return builtin.load(name, seed, val_fraction) if name else folders.open_folder(folder, seed, val_fraction)


def open_split(
    where: str | os.PathLike[str], split: str = "test", seed: int = 0, classes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], ImageSplit]:
    """One part of a data set, for evaluation; unlike ``open_dataset`` it needs no training images.

    ``test`` of a folder is ``test/``, else ``val/``, else the folder's own sub-folders as classes. ``train`` and
    ``val`` are the folders of that name, whole.

    Args:
        where: as for ``open_dataset``.
        split: ``train``, ``val`` or ``test``.
        seed: as for ``open_dataset``; matters to the built-in sets' ``train`` and ``val`` only.
        classes: the classes of a trained task. Labels are then indices into these, and the set may lack some.

    Returns:
        Class names in the order of the labels, and the images.

    Raises:
        EnvironmentFault: as for ``open_dataset``; or a class is not among ``classes``.
        UsageError: unknown split or built-in set.
    """
    if split not in folders.PARTS:
        raise UsageError(f"split: expected one of {', '.join(folders.PARTS)}, got {split!r}")
    name, folder = _parse(where)
    images: ImageSplit
    if name:
        data = builtin.load(name, seed)
        own, images = data.classes, getattr(data, split)
    else:
        own, images = folders.open_folder_part(folder, split)
    if classes is None:
        return own, images
    return tuple(classes), relabelled(images, own, classes, os.fspath(where))


def _parse(where: str | os.PathLike[str]) -> tuple[str, Path]:
    """The name of a built-in set, or "" and a folder."""
    text = os.fspath(where)
    if text.startswith(BUILTIN):
        return builtin.known(text[len(BUILTIN) :]), Path()
    return "", Path(text[len(IMAGEFOLDER) :] if text.startswith(IMAGEFOLDER) else text).expanduser()
