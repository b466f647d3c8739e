"""A function called in a fresh process of its own: JSON goes there, JSON comes back.

What is measured there finds nothing that another left behind, and what crashes there costs nobody else. The process
sees exactly this one's import path and does not outlive the call.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

from packnet_deploy.errors import PackNetError

# Neither -m nor a script would do: both put a folder before the path.
START = "import sys; sys.path[:] = sys.argv[2:]; from packnet_deploy.bench.fresh import main; main()"


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


def in_fresh_process(function: Callable[[Any], Any], request: Any, seconds: float | None = None) -> Any:
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
            [sys.executable, "-c", START, f"{function.__module__}:{function.__qualname__}", *sys.path],
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
    try:
        answer = {"returned": getattr(importlib.import_module(module), name)(json.load(sys.stdin))}
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        traceback.print_exc()
        answer = {"kind": type(error).__name__, "message": one_line(error)}
    with open(answer_fd, "w", encoding="utf-8") as out:
        json.dump(answer, out)


def one_line(error: Exception) -> str:
    """Packnet's own errors by what they say, others with their class."""
    said = " ".join(str(error).split())
    return said if isinstance(error, PackNetError) else f"{type(error).__name__}: {said}"


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode} and no answer"
    name = signal.Signals(-returncode).name
    hint = ", which is how a system short of memory ends processes" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
