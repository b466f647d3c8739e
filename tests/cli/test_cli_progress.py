"""Training's progress: bars on a terminal, plain lines elsewhere, the same figures in both."""

from __future__ import annotations

import io
import itertools
import math
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from packnet_deploy.cli import progress as module
from packnet_deploy.cli.progress import BarProgress, PlainProgress, progress
from packnet_deploy.training.inference import Errors


def watched(console: Console) -> str:
    """What two phases of two epochs, two batches each, print on ``console``."""
    assert isinstance(console.file, io.StringIO)
    with progress(console) as watcher:
        for phase in ("train", "retrain"):
            watcher.phase(f"birds: {phase}", begin=0, end=2, batches=2)
            for epoch in (1, 2):
                for _ in range(2):
                    watcher.batch(images=32, loss=1.25)
                watcher.epoch(epoch, loss=1.25, val=Errors(0.125, 0.0))
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=2)  # seconds, at the start of a phase and at the end of each epoch
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    console = Console(file=io.StringIO(), force_terminal=False)
    assert type(progress(console)) is PlainProgress
    lines = watched(console).splitlines()
    assert lines == [
        f"birds: {phase}  epoch {epoch}/2  loss 1.250  validation error 12.5 %  32 images/s  {left} s left"
        for phase in ("train", "retrain")
        for epoch, left in ((1, 2), (2, 0))
    ]


def test_a_phase_that_goes_on_counts_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=3)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    console = Console(file=io.StringIO(), force_terminal=False)
    with progress(console) as watcher:
        watcher.phase("birds: train", begin=7, end=10, batches=1)
        watcher.batch(images=30, loss=1.25)
        watcher.epoch(8, loss=1.25, val=Errors(math.nan, math.nan))
    assert isinstance(console.file, io.StringIO)
    expected = "birds: train  epoch 8/10  loss 1.250  validation error -  10 images/s  6 s left\n"
    assert console.file.getvalue() == expected


def test_bars_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    assert type(progress(console)) is BarProgress
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", watched(console))
    last = [line for line in re.split(r"[\r\n]+", shown) if line.strip()][-2:]
    for line, phase in zip(last, ("train", "retrain"), strict=True):
        assert line.startswith(f"birds: {phase} ")
        assert re.search(r"━{12} 0:00:00 [\d,]+ images/s  loss 1\.250  validation error 12\.5 %", line), "a full bar"


def test_a_schedule_has_one_bar_through_all_its_phases() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress(console) as watcher:
        for epoch, phase in enumerate(("train", "train", "retrain")):
            watcher.phase(f"birds: {phase}", begin=epoch, end=3, batches=1)
            watcher.batch(images=32, loss=1.25)
            watcher.epoch(epoch + 1, loss=1.25, val=Errors(0.125, 0.0))
        watcher.phase("owls: train", begin=0, end=3, batches=1)
    assert isinstance(watcher, BarProgress)
    assert [(bar.description, bar.completed, bar.total) for bar in watcher._bars.tasks] == [
        ("birds: retrain", 3, 3),
        ("owls: train", 0, 3),
    ]
