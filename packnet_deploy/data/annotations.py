"""The files by which data sets describe their images: text tables, and files of MATLAB, which SciPy reads.

A table has a line an image or a class, its columns set apart by spaces. Whatever a file holds is checked before it is
used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import EnvironmentFault, missing_package


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


class MatFile:
    """The variables of one file.

    Raises:
        EnvironmentFault: the file is missing or damaged, or SciPy is not installed. The methods raise it for a
            variable that is missing or of another kind.
    """

    def __init__(self, path: Path, layout: str) -> None:
        self.path = path
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise missing_package("scipy", "train", f"reading {path.name}") from error
        if not path.is_file():
            raise EnvironmentFault(f"{path}: expected a file, it does not exist; the layout is {layout}")
        try:
            self._variables: dict[str, Any] = loadmat(str(path), squeeze_me=True)
        except Exception as error:  # a damaged file can make the reader raise nearly anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EnvironmentFault(f"{path}: expected a MATLAB file, got: {reason}; get the file again") from error

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """A list of whole numbers, int64 ``[n]``."""
        return self._whole(self._list(name), name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return self._text(self._list(name), name)

    def records(self, name: str, numbers: tuple[str, ...], texts: tuple[str, ...]) -> dict[str, Any]:
        """A list of structs: int64 ``[n]`` for each of the fields ``numbers``, a tuple for each of ``texts``."""
        records = self._list(name)
        own = records.dtype.names or ()
        lacking = [field for field in (*numbers, *texts) if field not in own]
        if lacking:
            raise self._fault(name, f"structs with {', '.join((*numbers, *texts))}", f"none with {lacking[0]!r}")
        found: dict[str, Any] = {field: self._whole(records[field], f"{name}.{field}") for field in numbers}
        return found | {field: self._text(records[field], f"{name}.{field}") for field in texts}

    def _list(self, name: str) -> npt.NDArray[Any]:
        if name not in self._variables:
            raise self._fault(name, "it there", "the variables " + ", ".join(k for k in self._variables if k[0] != "_"))
        found = np.atleast_1d(self._variables[name])
        if found.ndim != 1:
            raise self._fault(name, "a list", f"an array of shape {list(found.shape)}")
        return found

    def _whole(self, values: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
        for value in values.tolist():
            if not isinstance(value, int | float) or not abs(value) < 1 << 31 or value != int(value):  # nor NaN
                raise self._fault(name, "whole numbers", repr(value))
        return np.array(values.tolist(), np.int64)

    def _text(self, values: npt.NDArray[Any], name: str) -> tuple[str, ...]:
        for value in values.tolist():
            if not isinstance(value, str):
                raise self._fault(name, "strings", repr(value))
        return tuple(values.tolist())

    def _fault(self, name: str, expected: str, got: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self.path}: variable {name!r}: expected {expected}, got {' '.join(got.split())[:80]}"
        )
