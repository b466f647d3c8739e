"""The line behind a command's output that says what can come next, in commands that can be copied."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_deploy.cli.packs import is_only_one_here

if TYPE_CHECKING:
    from rich.console import Console


def print_next(screen: Console, *commands: str) -> None:
    """One line; what stands in capitals is the reader's to fill in."""
    screen.print(f"next: {'; '.join(commands)}", soft_wrap=True)


def command_line(command: str, *arguments: str | Path, pack: Path | None = None) -> str:
    """``packnet command``, its arguments quoted as a shell needs them.

    Args:
        pack: the one that it is about; named where it is not the only one here, which is taken anyway.
    """
    named = [] if pack is None or is_only_one_here(pack) else ["--pack", str(pack)]
    return " ".join(["packnet", command, *(shlex.quote(str(argument)) for argument in (*arguments, *named))])
