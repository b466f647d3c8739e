"""Every error a user can meet, each with the exit code the command line returns for it.

A message is one line and says four things: which file, tensor or option; what was expected; what was found;
what to do next. Programming mistakes (a wrong argument type, say) stay ordinary Python exceptions.
"""

from __future__ import annotations


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


def missing_package(package: str, extra: str, purpose: str) -> EnvironmentFault:
    """The error for an optional dependency that is not installed; nothing is ever installed by itself."""
    return EnvironmentFault(
        f"{purpose} needs the package '{package}', which is not installed here; "
        f"run: pip install 'packnet-deploy[{extra}]'"
    )


def reason(error: BaseException) -> str:
    """What a library's error says first, as one line that can be printed: it may quote a file, at any length."""
    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return repr(said[:200])[1:-1]
