"""Text tables of data sets: a line an image or a class, columns set apart by spaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packnet_deploy.errors import EnvironmentFault


def read_table(path: Path, columns: Sequence[str], layout: str) -> list[list[str]]:
    """The table's rows; the last column may hold spaces, and empty lines do not count.

    Raises:
        EnvironmentFault: the file is missing, is no UTF-8, or a row is too short.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise EnvironmentFault(f"{path}: expected a file, it does not exist; the layout is {layout}") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise EnvironmentFault(
            f"{path}: line {number}: expected UTF-8, got the byte {error.object[error.start]:#x}"
        ) from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = line.strip().split(maxsplit=len(columns) - 1)
        if len(row) < len(columns):
            raise EnvironmentFault(f"{path}: line {number}: expected {' '.join(columns)}, got {line.strip()!r}")
        rows.append(row)
    return rows


def read_by_id(path: Path, columns: Sequence[str], layout: str) -> dict[int, list[str]]:
    """The table's rows by the whole number in their first column, without it.

    Raises:
        EnvironmentFault: as for ``read_table``; or an id is no whole number, or comes twice.
    """
    rows: dict[int, list[str]] = {}
    for key, *row in read_table(path, columns, layout):
        number = whole_number(key, path)
        if number in rows:
            raise EnvironmentFault(f"{path}: expected each {columns[0]} once, got {number} twice")
        rows[number] = row
    return rows


def whole_number(text: str, path: Path) -> int:
    """A number of a table.

    Raises:
        EnvironmentFault: it is none, or has more than nine digits.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise EnvironmentFault(f"{path}: expected a whole number, got {text!r}")
    return int(text)
