"""Running what is missing: each run a child process, some at a time, in the design's order.

A child that fails is reported and the others go on. An interruption reaches every child, which keeps a checkpoint and
ends; the same command goes on from there. Showing progress is the command's business (``Watcher``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from packnet_deploy.errors import Terminated
from packnet_deploy.experiments.design import Run
from packnet_deploy.experiments.folder import ExperimentsFolder, RunFolder
from packnet_deploy.version import __version__

TRAINER = (sys.executable, "-m", "packnet_deploy", "train")
GRACE_SECONDS = 60.0  # for a child to write its checkpoint when it is told to stop
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Outcome:
    """How one run ended: ``code`` is the child's exit code, or None where it was not started."""

    run: Run
    code: int | None
    seconds: float
    reason: str = ""


class Watcher(Protocol):
    """Is told how the runs go."""

    def started(self, run: Run) -> None: ...
    def going(self, run: Run, epochs: int, seconds: float) -> None:
        """Called a few times a second: epochs trained so far, by this process and those before it."""

    def ended(self, outcome: Outcome) -> None: ...


@dataclass
class _Child:
    run: Run
    folder: RunFolder
    process: subprocess.Popen[bytes]
    begun: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


def execute(
    runs: Sequence[Run],
    out: ExperimentsFolder,
    data_root: Path,
    watcher: Watcher,
    jobs: int = 1,
    trainer: Sequence[str] = TRAINER,
) -> list[Outcome]:
    """Run what is not done, ``jobs`` at a time with an equal share of the cores each.

    Args:
        runs: bases before the runs that continue them.
        trainer: the command to which ``recipe.toml --resume`` is added.

    Returns:
        How each of them ended, in that order of time.

    Raises:
        KeyboardInterrupt: the children have been stopped (Terminated: by SIGTERM).
    """
    waiting = [run for run in runs if out.of(run).state != "done"]
    running: list[_Child] = []
    outcomes: list[Outcome] = []
    threads = max(1, cores() // jobs)
    with _terminable():
        try:
            while waiting or running:
                for run in [run for run in waiting if _is_ready(run, out, outcomes)]:
                    if len(running) == jobs:
                        break
                    waiting.remove(run)
                    if (lost := _lost_base(run, outcomes)) is not None:
                        outcomes.append(Outcome(run, None, 0.0, f"its first task failed: {lost.run.name}"))
                        watcher.ended(outcomes[-1])
                        continue
                    watcher.started(run)
                    running.append(_start(run, out, data_root, threads, trainer))
                time.sleep(_POLL_SECONDS)
                for child in list(running):
                    if child.process.poll() is None:
                        watcher.going(child.run, len(child.folder.rows("log.csv")), child.seconds)
                        continue
                    running.remove(child)
                    outcomes.append(_end(child, threads))
                    watcher.ended(outcomes[-1])
        finally:
            _stop(running)
    return outcomes


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_ready(run: Run, out: ExperimentsFolder, outcomes: Sequence[Outcome]) -> bool:
    return run.base is None or out.of(run.base).state == "done" or _lost_base(run, outcomes) is not None


def _lost_base(run: Run, outcomes: Sequence[Outcome]) -> Outcome | None:
    return next((o for o in outcomes if o.run == run.base and o.code != 0), None)


def _start(run: Run, out: ExperimentsFolder, data_root: Path, threads: int, trainer: Sequence[str]) -> _Child:
    folder = out.of(run)
    folder.prepare(run.recipe(data_root), out.of(run.base) if run.base is not None else None)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # A group of its own: the terminal's Ctrl-C reaches us alone, and we tell the child once.
    with open(folder.log, "wb") as log:
        process = subprocess.Popen(
            [*trainer, folder.recipe.name, "--resume"],
            cwd=folder.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _Child(run, folder, process, time.monotonic())


def _end(child: _Child, threads: int) -> Outcome:
    code, seconds = child.process.returncode, child.seconds
    if code != 0:
        return Outcome(child.run, code, seconds, child.folder.last_words() or f"exit code {code}, nothing was printed")
    epochs = sum(float(row["seconds"]) for row in child.folder.rows("log.csv"))
    child.folder.finish({"seconds": round(max(seconds, epochs), 1), "threads": threads, "version": __version__})
    return Outcome(child.run, code, seconds)


def _stop(running: Sequence[_Child]) -> None:
    for child in running:
        child.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for child in running:
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # too slow, or a second Ctrl-C
            child.process.kill()
            child.process.wait()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """While children run, SIGTERM ends us as Ctrl-C does: they are in groups of their own and would stay behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
