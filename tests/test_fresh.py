"""A function in a fresh process: what it returns, what it raises, and what becomes of a process without an answer."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import pytest

from packnet_deploy import fresh
from packnet_deploy.errors import UsageError
from packnet_deploy.fresh import NoAnswer, Raised, in_fresh_process


def told(request: Any) -> Any:
    print("what libraries print is no answer")
    return [request, os.getpid()]


def refuses(request: str) -> None:
    raise UsageError(f"{request}: expected\nanother")


def fails(request: int) -> None:
    [][request]


def is_killed(request: int) -> None:
    os.kill(os.getpid(), request)


def sleeps(request: float) -> None:
    time.sleep(request)


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child finds this module by its name, as this process does."""
    monkeypatch.setattr(sys, "path", [os.path.dirname(__file__), *sys.path])


def test_json_goes_there_and_comes_back() -> None:
    request = {"é": [1, 2.5, None]}
    answer, process = in_fresh_process(told, request)
    assert answer == request
    assert process != os.getpid()


def test_what_it_raises_is_told_in_one_line() -> None:
    with pytest.raises(Raised, match=r"^this: expected another$") as own:
        in_fresh_process(refuses, "this")
    assert own.value.kind == "UsageError"
    with pytest.raises(Raised, match=r"^IndexError: list index out of range$") as other:
        in_fresh_process(fails, 1)
    assert "in fails" in other.value.printed


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_process_without_an_answer_says_how_it_ended() -> None:
    with pytest.raises(NoAnswer, match=r"^its process was ended by SIGSEGV \(no message\)$"):
        in_fresh_process(is_killed, signal.SIGSEGV)
    with pytest.raises(NoAnswer, match="SIGKILL, which is how a system short of memory"):
        in_fresh_process(is_killed, signal.SIGKILL)
    with pytest.raises(NoAnswer, match=r"^its process took more than 1 s$"):
        in_fresh_process(sleeps, 60, seconds=1)


def test_an_exit_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "START", "raise SystemExit('no luck')")
    with pytest.raises(NoAnswer, match=r"^its process ended with exit code 1 and no answer \(no luck\)$"):
        in_fresh_process(told, 1)
