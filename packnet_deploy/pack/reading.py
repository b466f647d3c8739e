"""First checks on what came from elsewhere: a regular file, JSON that reads one way only, a printable name, a shape."""

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

from packnet_deploy.errors import ArtefactError, EnvironmentFault

MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 40

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


def open_regular(path: Path, missing: str | None = None, inside: Path | None = None) -> io.FileIO:
    """Open a file for unbuffered reading.

    Args:
        missing: the whole message if there is no such file.
        inside: from this folder on, no part of the way to ``path`` may be a link.

    Raises:
        ArtefactError: there is no such file, or it is a link, a directory, a pipe, a device.
        EnvironmentFault: the system does not let us read it.
    """
    flags = os.O_NONBLOCK | (0 if inside is None else os.O_NOFOLLOW)  # opening a pipe would wait for ever
    try:
        with directory_of(path, inside) as directory:
            file = io.FileIO(path, opener=lambda _, mode: os.open(path.name, mode | flags, dir_fd=directory))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(missing or f"{path}: no such file") from error
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
    """JSON as RFC 8259 has it, and no name twice in an object: Python takes the last of two, other readers the first.

    Raises:
        ValueError: it is anything else.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return content


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
