"""The one console, through which no name, message or file can command the terminal or forge a line.

Whatever is printed as a plain text, cells of tables included, has its control characters escaped; styles and line
breaks are ours alone, and come as rich's own objects. Lines without layout go through ``show.say``.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from packnet_deploy.errors import printable


class Screen(Console):
    """rich's console, which takes nothing from a text but its letters."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Leaves it to ``app.run``, for which a reader that has seen enough is no error; rich would exit with 1."""
        raise BrokenPipeError
