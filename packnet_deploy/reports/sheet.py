"""Rows as CSV, which spreadsheets open: no text is a formula there, and none forges a row or commands a terminal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from typing import IO

from packnet_deploy.errors import printable

Cell = str | float | None

FORMULAS = "=+-@\uff1d\uff0b\uff0d\uff20"  # what a text begins with that a spreadsheet computes; in full width too


def row_writer(file: IO[str]) -> Callable[[Iterable[Cell]], object]:
    """What writes a row to ``file`` whenever it is called. Numbers stay what they are; see ``as_letters`` for texts."""
    write = csv.writer(file, lineterminator="\n").writerow
    return lambda cells: write([as_letters(cell) if isinstance(cell, str) else cell for cell in cells])


def as_letters(text: str) -> str:
    """``text`` with an apostrophe before what would be a formula, and without control characters (``printable``)."""
    return f"'{printable(text)}" if text.startswith(tuple(FORMULAS)) else printable(text)
