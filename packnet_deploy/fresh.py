"""A function called in a fresh process of its own: JSON goes there, JSON comes back.

What is measured there finds nothing that another left behind, and what crashes there costs nobody else. The process
sees exactly this one's import path and does not outlive the call.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from packnet_deploy.errors import PackNetError

# Neither -m nor a script would do: both put a folder before the path.
START = "import sys; sys.path[:] = sys.argv[3:]; from packnet_deploy.fresh import main; main()"


class Limits(NamedTuple):
    """What the process may take; one that takes more is ended, or finds no memory. Held where the system can (POSIX).

    It leaves no core dump, whatever the system is set to do.
    """

    seconds: int  # of processor time
    memory: int  # bytes of address space


class Raised(Exception):
    """The function raised an exception; says what that says, in one line.

    Attributes:
        kind: its class, by name.
        printed: its traceback, and whatever else was printed there.
    """

    def __init__(self, message: str, kind: str, printed: str) -> None:
        super().__init__(message)
        self.kind, self.printed = kind, printed


class NoAnswer(Exception):
    """The process ended without an answer, or did not end in time; says which."""


def in_fresh_process(
    function: Callable[[Any], Any], request: Any, seconds: float | None = None, limits: Limits | None = None
) -> Any:
    """What ``function(request)`` returns there.

    Args:
        function: of a module, found there by its name.
        request: as the answer, in types that ``json.dumps`` takes.
        seconds: how long it may take; None: as long as it likes.

    Raises:
        Raised: the function did.
        NoAnswer: the process was killed, ended otherwise, or took longer.
    """
    try:
        process = subprocess.run(  # kills it when interrupted
            [_python(), "-c", START, f"{function.__module__}:{function.__qualname__}", json.dumps(limits), *sys.path],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
        answer = json.loads(process.stdout)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"its process took more than {seconds:,.0f} s") from None
    except ValueError:
        last_words = process.stderr.strip().splitlines()[-1:] or ["no message"]
        raise NoAnswer(f"its process {_how_it_ended(process.returncode)} ({last_words[0]})") from None
    if "kind" in answer:
        raise Raised(answer["message"], answer["kind"], process.stderr)
    return answer["returned"]


def main() -> None:
    """The fresh process: call what the command line names with what is on stdin."""
    answer_fd = os.dup(1)  # whatever libraries print to stdout goes to stderr, the answer stays clean
    os.dup2(2, 1)
    module, _, name = sys.argv[1].partition(":")
    if (limits := json.loads(sys.argv[2])) is not None:
        _hold_to(Limits(*limits))
    try:
        answer = {"returned": getattr(importlib.import_module(module), name)(json.load(sys.stdin))}
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        traceback.print_exc()
        answer = {"kind": type(error).__name__, "message": one_line(error)}
    with open(answer_fd, "w", encoding="utf-8") as out:
        json.dump(answer, out)


def _python() -> str:
    """The interpreter; programs that embed one name it by ``multiprocessing.set_executable``."""
    from multiprocessing.spawn import get_executable  # not needed in the process itself

    return os.fsdecode(get_executable())


def _hold_to(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in (
        (resource.RLIMIT_CPU, limits.seconds),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of address space
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def one_line(error: Exception) -> str:
    """Packnet's own errors by what they say, others with their class."""
    said = " ".join(str(error).split())
    return said if isinstance(error, PackNetError) else f"{type(error).__name__}: {said}"


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode} and no answer"
    name = signal.Signals(-returncode).name
    hints = {
        "SIGKILL": ", which is how a system short of memory ends processes",
        "SIGXCPU": ", for it took more time than it may",
    }
    return f"was ended by {name}{hints.get(name, '')}"
