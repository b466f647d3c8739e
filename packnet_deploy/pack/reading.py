"""First checks on what came from elsewhere: a regular file, JSON that reads one way only, a printable name, a shape."""

from __future__ import annotations

import io
import json
import math
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from packnet_deploy.errors import ArtefactError, EnvironmentFault

MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 40

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


def open_regular(path: Path, missing: str | None = None) -> io.FileIO:
    """Open a file for unbuffered reading.

    Args:
        missing: the whole message if there is no such file.

    Raises:
        ArtefactError: there is no such file, or it is a directory, a pipe, a device.
        EnvironmentFault: the system does not let us read it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever, a device may never end
            raise ArtefactError(f"{path}: not a regular file")
        return io.FileIO(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(missing or f"{path}: no such file") from error
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


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
