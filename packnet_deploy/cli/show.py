"""How commands print: one console, numbers in one style."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 120  # columns when the output is not a terminal
PLAIN: Any = {"highlight": False, "markup": False, "emoji": False}  # a path may hold [bold] or :cat:; print it as it is


def console(err: bool = False) -> Console:
    """Standard output; as wide as the terminal, or wide enough for every table where there is none.

    Args:
        err: standard error instead, for what a person reads while a JSON document goes to standard output.
    """
    from packnet_deploy.cli.screen import Screen

    screen = Screen(**PLAIN, stderr=err)
    return screen if screen.is_terminal else Screen(**PLAIN, stderr=err, width=max(PLAIN_WIDTH, screen.width))


def say(line: str, err: bool = False) -> None:
    """One line without layout, on standard output or standard error."""
    _echo(printable(line), err)


def say_text(text: str) -> None:
    """Several lines of ours on standard output."""
    _echo(printable(text, keep="\n"))


def say_json(document: Mapping[str, Any]) -> None:
    """The one document of a command that was asked for ``--json``; docs/json.md has every command's."""
    say_text(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """``value`` with ``None`` for what JSON has no number for: a difference that is NaN, say."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _echo(text: str, err: bool = False) -> None:
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        raise BrokenPipeError from None  # without its number, at which click would exit with 1: app.run knows better


def table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """A table of texts (left) and figures (right); a column's name may have several lines."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        made.add_column(Text(name), overflow="fold", min_width=8 if name == "task" else None)
    for name in right:
        made.add_column(Text(name), justify="right", no_wrap=True)
    return made


def percent(value: float | None) -> str:
    """0.947 as ``94.7 %``; ``-`` where nothing was measured."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def size(count: int) -> str:
    """Bytes, to three figures or so."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}" if count < 100 * factor else f"{count / factor:,.0f} {unit}"
    return f"{count} B"
