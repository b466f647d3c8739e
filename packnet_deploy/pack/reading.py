"""First checks on what came from elsewhere: a regular file, JSON that reads one way only, a printable name, a shape.

Another reader of packs (engines/) must come to the same verdict on every file, so what JSON leaves open is closed here,
as docs/format.md has it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from packnet_deploy.errors import ArtefactError, EnvironmentFault, PackNetError

MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 40
MAX_JSON_PARTS = 1 << 18  # commas and opening brackets, in texts too: each may become an object of a hundred bytes
MAX_NESTING = 64  # JSON's arrays and objects within each other, the outermost one included

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")
_SURROGATE = re.compile("[\\ud800-\\udfff]")
_MANY_DIGITS = 300  # fewer are finite


class RegularFile(io.FileIO):
    """A file open for unbuffered reading; one that the system then fails to read is an EnvironmentFault."""

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        with self._readable():
            return super().read(size) or b""

    def readall(self) -> bytes:
        with self._readable():
            return super().readall() or b""

    def readinto(self, buffer: Any, /) -> int:
        with self._readable():
            return super().readinto(buffer) or 0

    def readinto_at(self, buffer: memoryview, place: int) -> int:
        """Read from ``place`` on, whatever other threads read; returns how many bytes, 0 at the file's end."""
        with self._readable():
            return os.preadv(self.fileno(), [buffer], place)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EnvironmentFault(f"{self.name}: cannot be read ({error.strerror}); check its disk") from error


def open_regular(path: Path, missing: PackNetError | None = None, inside: Path | None = None) -> RegularFile:
    """Open a file for unbuffered reading.

    Args:
        missing: the error if there is no such file, in place of those below.
        inside: the pack that it is part of; from this folder on, no part of the way to ``path`` may be a link.

    Raises:
        ArtefactError: it is a link, a directory, a pipe, a device; or the pack lacks it.
        EnvironmentFault: there is no such file, or the system does not let us read it.
    """
    flags = os.O_NONBLOCK | (0 if inside is None else os.O_NOFOLLOW)  # opening a pipe would wait for ever
    try:
        with directory_of(path, inside) as directory:
            file = RegularFile(path, opener=lambda _, mode: os.open(path.name, mode | flags, dir_fd=directory))
    except (FileNotFoundError, NotADirectoryError) as error:
        if missing is None and inside is not None:
            missing = ArtefactError(f"{path}: no such file; the pack is incomplete")
        raise missing or EnvironmentFault(f"{path}: expected a file, got nothing: no such file") from error
    except IsADirectoryError as error:
        raise ArtefactError(f"{path}: not a regular file") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ArtefactError(f"{path}: expected no link in a pack, got one; use a pack from its source") from error
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ArtefactError(f"{path}: not a regular file")
    return file


@contextlib.contextmanager
def directory_of(path: Path, inside: Path | None = None) -> Iterator[int]:
    """A handle on the folder that ``path`` lies in; from ``inside`` on, no part of the way there may be a link.

    Raises:
        ArtefactError: one is.
        OSError: there is no such folder, or it may not be opened.
    """
    root = path.parent if inside is None else inside
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in path.parent.relative_to(root).parts:
            if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode):
                raise ArtefactError(f"{root / name}: expected no link in a pack, got one; use a pack from its source")
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def is_printable(text: str) -> bool:
    """Whether ``text`` has no control characters, line separators or lone surrogates.

    They would split a one-line message, command a terminal, or fail to be encoded.
    """
    return _CONTROL.search(text) is None


def is_possible(shape: Sequence[int]) -> bool:
    """Whether numpy can make the shape at all; an empty tensor may claim any size in its other dimensions."""
    return len(shape) <= MAX_DIMENSIONS and math.prod(max(1, size) for size in shape) <= MAX_ELEMENTS


def parse_json(text: str) -> Any:
    """JSON as docs/format.md has it: RFC 8259, and nothing that another reader might take differently.

    No name twice in an object (Python takes the last of two, other readers the first), no lone surrogates, no number
    beyond double, no more than ``MAX_NESTING`` levels and ``MAX_JSON_PARTS`` parts.

    Raises:
        ValueError: it is anything else.
        RecursionError: it is nested more deeply than Python's own parser goes.
    """
    if (parts := sum(map(text.count, ",[{"))) > MAX_JSON_PARTS:
        raise ValueError(f"expected at most {MAX_JSON_PARTS:,} commas and opening brackets, got {parts:,}")
    document = json.loads(
        text, object_pairs_hook=_unique, parse_constant=_not_json, parse_float=_finite, parse_int=_whole
    )
    _check_values(document, depth=0)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return content


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"a number beyond double: {text[:40]}")
    return number


def _whole(text: str) -> int:
    if len(text) >= _MANY_DIGITS:
        _finite(text)
    return int(text)


def _check_values(value: Any, depth: int) -> None:
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise ValueError("a lone surrogate in a text")
        return
    if not isinstance(value, (dict, list)):
        return
    if depth >= MAX_NESTING:
        raise ValueError(f"more than {MAX_NESTING} levels of nesting")
    for name in value if isinstance(value, dict) else ():
        _check_values(name, depth + 1)
    for item in value.values() if isinstance(value, dict) else value:
        _check_values(item, depth + 1)
