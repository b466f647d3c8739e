"""``packnet train`` in milliseconds: a network of 1,560 packable weights under the quickstart's name, traced once.

Also in a process of its own, which may be killed. It is forked from a server that has imported PyTorch and computed
nothing yet: autograd's threads do not survive a fork.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from packnet_deploy.errors import PackNetError
from packnet_deploy.pack import atomic
from packnet_deploy.training import backbones, run, task
from packnet_deploy.training.inference import Errors
from packnet_deploy.training.options import TrainOptions

NEW: dict[str, Any] = {"arch": "quickstart", "weights": "none", "image_size": 16}
QUICK: dict[str, Any] = {"epochs": 2, "retrain_epochs": 1, "batch_size": 5, "lr": 0.05, "device": "cpu"}
Set = Callable[[Any, str, Any], None]  # setattr, or pytest's monkeypatch.setattr
_traced: dict[Any, Any] = {}


def small_classifier(classes: int) -> nn.Module:
    """Convolutions with and without bias, BatchNorm, a linear layer, dropout."""
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    )
    network = nn.Sequential()
    for name, part in {
        "features": features,
        "flatten": nn.Flatten(),
        "fc": nn.Linear(16, 12),
        "dropout": nn.Dropout(0.2),
        "head": nn.Linear(12, classes),
    }.items():
        network.add_module(name, part)
    return network


def make_training_small(replace: Set) -> None:
    """Let the network that is trained be this one, and trace the same network once only."""
    trace = task.trace_skeleton

    @functools.wraps(trace)
    def trace_once(module: nn.Module, head: str, spec: Any) -> Any:
        key = (str(module).partition("(head)")[0], head, spec)
        if key not in _traced:
            _traced[key] = trace(module, head, spec)
        return _traced[key]

    replace(backbones, "quickstart_network", small_classifier)
    replace(task, "trace_skeleton", trace_once)


def recipe(*folders: Path, **changes: Any) -> list[TrainOptions]:
    """A task on each of these folders, named after it."""
    return [
        TrainOptions(task=data.name, data=str(data), **(QUICK | (NEW if data is folders[0] else {}) | changes))
        for data in folders
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Silent:
    """A watcher that only remembers the phases, and the epochs' losses."""

    def __init__(self) -> None:
        self.phases = list[tuple[str, int, int, int]]()
        self.losses = list[float]()
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, name: str, begin: int, end: int, batches: int) -> None:
        self.phases.append((name, begin, end, batches))

    def batch(self, images: int, loss: float) -> None: ...

    def epoch(self, epoch: int, loss: float, val: Errors) -> None:
        self.losses.append(loss)


class StopsAt(Silent):
    """Sends this process a signal at a step."""

    def __init__(self, step: int = 0, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.steps, self.step, self.number = 0, step, number

    def batch(self, images: int, loss: float) -> None:
        self.steps += 1
        if self.steps == self.step:
            os.kill(os.getpid(), self.number)


def train(tasks: Sequence[TrainOptions], path: Path, *, resume: bool = False, watcher: Silent | None = None) -> None:
    """Train into a pack, in a folder that is made if need be."""
    if not path.parent.exists():  # of several processes the first alone may write
        path.parent.mkdir()
    for _ in run.train_tasks(tasks, path, watcher or Silent(), resume=resume):
        pass


@dataclass(frozen=True)
class Alone:
    """A training in a process of its own, with other random numbers at its beginning than any before had.

    Attributes:
        before: is called in that process first.
        rank: its number among ``size`` processes that train together; they meet at ``port``.
    """

    tasks: Sequence[TrainOptions]
    path: Path
    resume: bool = False
    stop_at: int = 0
    before: Callable[[], None] | None = None
    rank: int = 0
    size: int = 1
    port: int = 0

    @property
    def said(self) -> Path:
        """A file that holds the error that ended it."""
        return self.path.with_name(f"said by {self.rank}")

    def start(self) -> BaseProcess:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["packnet_deploy.training.run"])
        process = context.Process(target=self.run, args=(_traced,))
        process.start()
        return process

    def run(self, traced: dict[Any, Any]) -> None:
        """In the new process; it ends with the exit code of ``packnet train``."""
        os.environ |= {"RANK": str(self.rank), "WORLD_SIZE": str(self.size), "LOCAL_RANK": str(self.rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port)}
        torch.set_num_threads(1)
        torch.manual_seed(time.time_ns() % 1000)
        _traced.update(traced)
        make_training_small(setattr)
        if self.before is not None:
            self.before()
        try:
            train(self.tasks, self.path, resume=self.resume, watcher=StopsAt(self.stop_at))
        except PackNetError as error:
            self.said.write_text(str(error))
            sys.exit(error.exit_code)


def finish(process: BaseProcess) -> int:
    """Its exit code; minus the signal's number if one killed it."""
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def die_at_the_second_checkpoint(moment: str) -> None:
    """Replace what ``atomic.replacing`` writes with by the same and a kill.

    Args:
        moment: when the checkpoint is "half written", "written" or "renamed".
    """
    writes = 0
    call = {"half written": open, "written": os.fsync, "renamed": os.replace}[moment]

    def and_die(first: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal writes
        name = os.readlink(f"/proc/self/fd/{first}") if moment == "written" else str(first)
        result = call(first, *arguments, **named)
        writes += "checkpoint.pt" in name
        if writes == 2:
            if moment == "half written":
                result.write(b"PK\x03\x04 and no more")
                result.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    if moment == "half written":
        atomic.open = and_die  # type: ignore[attr-defined]
    else:
        setattr(atomic.os, call.__name__, and_die)
