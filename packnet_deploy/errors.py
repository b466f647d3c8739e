"""Every error a user can meet, each with the exit code the command line returns for it.

``printable`` is how any text is made fit for a terminal.

A message is one line and says four things: which file, tensor or option; what was expected; what was found;
what to do next. Programming mistakes (a wrong argument type, say) stay ordinary Python exceptions.
"""

from __future__ import annotations

from unicodedata import category


class PackNetError(Exception):
    """Base class; ``exit_code`` is what ``packnet`` returns when this reaches the command line."""

    exit_code = 1


class CheckFailed(PackNetError):
    """A check did not hold: parity with the pack, frozen weights, a loss that is NaN."""

    exit_code = 1


class UsageError(PackNetError):
    """The request cannot be met as stated: an unknown task, a bad option, no capacity left."""

    exit_code = 2


class StepOrderError(UsageError):
    """A step of the packing cycle was called out of order."""


class EnvironmentFault(PackNetError):
    """The machine lacks something: a package, a GPU, disk space, a permission, a lock, a data set."""

    exit_code = 3


class ArtefactError(PackNetError):
    """A pack, delta, graph or plan is damaged, or does not fit what it is used with."""

    exit_code = 4


class Interrupted(PackNetError):
    """Stopped by a signal, in order; the message says how to go on."""

    exit_code = 130

    def __init__(self, message: str, *, terminated: bool = False) -> None:
        super().__init__(message)
        if terminated:  # by SIGTERM, not by Ctrl-C
            self.exit_code = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM; what was begun is undone on the way out, as after Ctrl-C."""


def missing_package(package: str, extra: str, purpose: str) -> EnvironmentFault:
    """The error for an optional dependency that is not installed; nothing is ever installed by itself."""
    return EnvironmentFault(
        f"{purpose} needs the package '{package}', which is not installed here; "
        f"run: pip install 'packnet-deploy[{extra}]'"
    )


def reason(error: BaseException) -> str:
    """What a library's error says first, as one line that can be printed: it may quote a file, at any length."""
    return printable(next(iter(str(error).strip().splitlines()), type(error).__name__)[:200])


def printable(text: str, keep: str = "") -> str:
    """``text`` without a character that could command a terminal, turn the line's direction or begin another one.

    Control and format characters (C0, C1, bidi, line separators, lone surrogates) become ``\\u001b`` and its like,
    which JSON reads as what they were; spaces of any kind stay, and so do the characters in ``keep``.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep or category(char) == "Zs" else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
