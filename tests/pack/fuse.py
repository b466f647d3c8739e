"""Power cuts and full disks at a chosen byte of packnet_deploy.pack.atomic's writing."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from packnet_deploy.pack import atomic


class Fuse:
    """Counts every byte written, every sync and every rename as one unit; calls ``blow`` when ``units`` are spent.

    What was written before stays written: half a ``write`` call included. ``landmarks`` says at which unit each
    sync and rename came, so that a first run without a limit shows where it is worth to blow.
    """

    def __init__(self, blow: Callable[[], Any], units: float = float("inf")) -> None:
        self.units, self.blow, self.spent = units, blow, 0
        self.landmarks: list[int] = []

    def spend(self, wanted: int) -> int:
        """How many of the wanted units are left."""
        granted = int(min(wanted, self.units - self.spent))
        self.spent += granted
        return granted

    def step(self, real: Callable[..., None], *arguments: Any, **more: Any) -> None:
        self.landmarks.append(self.spent)
        if not self.spend(1):
            self.blow()
        real(*arguments, **more)

    @contextlib.contextmanager
    def burning(self) -> Iterator[Fuse]:
        """Inside this block all of atomic.py's writing burns the fuse."""
        fsync, rename = os.fsync, os.replace
        with (
            mock.patch.object(atomic, "open", lambda path, mode, opener: FusedFile(path, self, opener), create=True),
            mock.patch.object(os, "fsync", lambda file: self.step(fsync, file)),
            mock.patch.object(os, "replace", lambda old, new, **where: self.step(rename, old, new, **where)),
        ):
            yield self

    def points(self, between: int) -> list[int]:
        """Units worth blowing at: around every sync and rename, and ``between`` more, evenly."""
        around = {mark + offset for mark in self.landmarks for offset in (-1, 0, 1)}
        spread = {self.spent * i // between for i in range(between)}
        return sorted(point for point in around | spread if 0 <= point < self.spent)


class FusedFile(io.FileIO):
    """An unbuffered file whose every byte burns the fuse."""

    def __init__(self, path: Any, fuse: Fuse, opener: Callable[[str, int], int]) -> None:
        super().__init__(path, "w", opener=opener)
        self._fuse = fuse

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        granted = self._fuse.spend(len(view))
        super().write(view[:granted])
        if granted < len(view):
            self._fuse.blow()
        return len(view)
