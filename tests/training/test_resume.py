"""Killed or stopped at any moment, a training that goes on comes to the same bytes as one that nothing befell."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    Alone,
    Silent,
    StopsAt,
    contents,
    die_at_the_second_checkpoint,
    finish,
    make_training_small,
    recipe,
    train,
)

from packnet_deploy.errors import ArtefactError, EnvironmentFault, Interrupted, PackNetError, UsageError
from packnet_deploy.pack import Pack, apply_delta, extract_delta
from packnet_deploy.training.checkpoint import read
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.train_folder import TrainFolder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and signals as POSIX has them")
Coloured = Callable[..., Path]
KILLS = 20
SMALL: dict[str, Any] = {"epochs": 2, "retrain_epochs": 2, "prune_steps": 2}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    make_training_small(monkeypatch.setattr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def outcome(path: Path) -> dict[str, bytes]:
    """What must not depend on interruptions: the pack, the results, and the log but for how long it took."""
    folder = TrainFolder.beside(path)
    log = [row[:-2] for row in folder.log().rows()]
    assert not folder.checkpoint.exists()
    return contents(path) | {"log": json.dumps(log).encode(), "results": json.dumps(folder.results().rows()).encode()}


@pytest.fixture
def tasks(coloured: Coloured) -> list[TrainOptions]:
    """Two tasks of two classes; the second has normalisation of its own."""
    first, second = recipe(coloured("a"), coloured("b", classes=3, train=6, val=3, test=3), **SMALL)
    return [first, replace(second, separate=("norm",), optimizer="adamw", lr=0.01)]


@pytest.mark.slow
def test_killed_at_twenty_moments_it_comes_to_the_same_bytes(tasks: list[TrainOptions], tmp_path: Path) -> None:
    """Any moment of two tasks' training, the writing of the pack included; half of them killed twice."""
    train(tasks[:1], tmp_path / "traced" / "p.pack")  # once, for all
    assert finish(Alone(tasks, tmp_path / "warm" / "p.pack").start()) == 0  # the server has imported PyTorch
    begun = time.monotonic()
    assert finish(Alone(tasks, tmp_path / "whole" / "p.pack").start()) == 0
    duration, expected = time.monotonic() - begun, outcome(tmp_path / "whole" / "p.pack")
    rng, interrupted = random.Random(0), set[str]()
    for number in range(KILLS):
        path = tmp_path / str(number) / "p.pack"
        for attempt in range(1 + number % 2):
            process = Alone(tasks, path, resume=attempt > 0).start()
            # Spread evenly, at a random place within each part.
            process.join(duration * (number // (1 + number % 2) + rng.random()) / KILLS)
            process.kill()
            if finish(process) != -signal.SIGKILL:
                break
            interrupted.add(where(path))
        if path.exists() and not Pack.open(path).tasks:
            pytest.fail("a pack without a task was left")
        assert finish(Alone(tasks, path, resume=True).start()) == 0
        assert outcome(path) == expected, f"kill {number}"
        shutil.rmtree(path.parent)
    assert {"before the first epoch", "in task 1", "in task 2"} <= interrupted, "or this test would show little"


def where(path: Path) -> str:
    """How far a killed training had come."""
    if path.exists():
        return f"in task {len(Pack.open(path).tasks) + 1}"
    return "in task 1" if TrainFolder.beside(path).checkpoint.exists() else "before the first epoch"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here, which tells what a file is called")
@pytest.mark.parametrize("moment", ["half written", "written", "renamed"])
def test_killed_while_a_checkpoint_is_written(tasks: list[TrainOptions], tmp_path: Path, moment: str) -> None:
    path = tmp_path / "p.pack"
    train(tasks[:1], tmp_path / "whole" / "p.pack")
    assert (
        finish(Alone(tasks[:1], path, before=partial(die_at_the_second_checkpoint, moment)).start()) == -signal.SIGKILL
    )
    left = [entry.name.partition("-")[0] for entry in TrainFolder.beside(path).path.iterdir()]
    assert (".tmp" in left) == (moment != "renamed")
    train(tasks[:1], path, resume=True)
    assert outcome(path) == outcome(tmp_path / "whole" / "p.pack")
    assert not list(TrainFolder.beside(path).path.glob(".tmp*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_says_how_to_go_on(
    tasks: list[TrainOptions], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    path, whole = tmp_path / "p.pack", StopsAt()
    train(tasks[:1], tmp_path / "whole" / "p.pack", watcher=whole)
    parts = [StopsAt(step, number) for step in (1, 3, 6)]  # counted from the last stop
    for index, part in enumerate(parts):
        with pytest.raises(
            Interrupted, match=r"^a: (re)?train: step \d of epoch \d: stopped; go on with: packnet train --resume$"
        ) as caught:
            train(tasks[:1], path, resume=index > 0, watcher=part)
        assert caught.value.exit_code == code
        assert part.steps == part.step + 1, "the step that was under way is the last one"
        assert read(TrainFolder.beside(path).checkpoint)["identity"]["task"] == "a"
        assert not path.exists()
    last = StopsAt()
    train(tasks[:1], path, resume=True, watcher=last)
    assert sum(part.steps for part in (*parts, last)) == whole.steps
    assert outcome(path) == outcome(tmp_path / "whole" / "p.pack")


@pytest.mark.parametrize("changes", [{"amp": "bf16"}, {"amp": "fp16", "optimizer": "adamw"}, {"channels_last": False}])
def test_mixed_precision_and_adamw_go_on_to_the_same_bytes(
    coloured: Coloured, tmp_path: Path, changes: dict[str, Any]
) -> None:
    tasks = recipe(coloured("a"), **(SMALL | {"lr": 0.01} | changes))
    train(tasks, tmp_path / "whole" / "p.pack")
    for step in (3, 8):
        with pytest.raises(Interrupted):
            train(tasks, tmp_path / "p.pack", resume=step > 3, watcher=StopsAt(step))
    train(tasks, tmp_path / "p.pack", resume=True)
    assert outcome(tmp_path / "p.pack") == outcome(tmp_path / "whole" / "p.pack")


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tasks: list[TrainOptions], tmp_path: Path) -> Path:
    """A pack whose first task was stopped in its second epoch."""
    path = tmp_path / "p.pack"
    with pytest.raises(Interrupted):
        train(tasks, path, watcher=StopsAt(6))
    return path


def test_what_an_interrupted_training_is_in_the_way_of(tasks: list[TrainOptions], stopped: Path) -> None:
    folder = TrainFolder.beside(stopped)
    before = contents(folder.path)
    again = r"checkpoint\.pt: a training was interrupted here; go on with it by --resume, or delete the file"
    for asked, resume, error, message in (
        (tasks, False, UsageError, again),
        (tasks[1:], False, UsageError, again),
        (
            [replace(tasks[0], lr=0.5), tasks[1]],
            True,
            UsageError,
            r"with lr 0\.05, now it is 0\.5; resume with the same",
        ),
        ([replace(tasks[0], seed=1), tasks[1]], True, UsageError, "with seed 0, now it is 1"),
        ([replace(tasks[0], task="c")], True, UsageError, "with task 'a', now it is 'c'"),
    ):
        with pytest.raises(error, match=message):
            train(asked, stopped, resume=resume)
        assert contents(folder.path) == before, "and --resume alone goes on as asked for first"
    assert folder.read_tasks() == tasks


def test_where_and_with_how_many_workers_may_change(tasks: list[TrainOptions], stopped: Path, tmp_path: Path) -> None:
    train(tasks, tmp_path / "whole" / "p.pack")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    TrainFolder.beside(stopped).path.rename(moved / "p.train")
    others = [replace(task, workers=2, device="auto", pack=moved / "p.pack") for task in tasks]
    train(others, moved / "p.pack", resume=True)
    assert outcome(moved / "p.pack") == outcome(tmp_path / "whole" / "p.pack")


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:1000] + data[1001:]])
def test_a_damaged_checkpoint_is_refused(
    tasks: list[TrainOptions], stopped: Path, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = TrainFolder.beside(stopped).checkpoint
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    for resume in (True, False):
        with pytest.raises(ArtefactError, match=r"checkpoint\.pt: not a checkpoint, or damaged .*; delete it to start"):
            train(tasks, stopped, resume=resume)
    checkpoint.unlink()
    train(tasks[:1], stopped, resume=True)  # from the beginning, then


def test_the_checkpoint_of_a_task_that_the_pack_holds_is_removed(tasks: list[TrainOptions], stopped: Path) -> None:
    """As a crash between the writing of the pack and the removing leaves it."""
    checkpoint = TrainFolder.beside(stopped).checkpoint
    stale = checkpoint.read_bytes()
    train(tasks[:1], stopped, resume=True)
    checkpoint.write_bytes(stale)
    train(tasks, stopped)
    assert [entry.name for entry in Pack.open(stopped).tasks] == ["a", "b"]
    assert not checkpoint.exists()


def test_a_checkpoint_for_another_pack_is_refused(tasks: list[TrainOptions], tmp_path: Path) -> None:
    """The second task, begun on one pack, does not go on on another with the same first task's name."""
    for name, seed in (("p", 0), ("q", 1)):
        train([replace(tasks[0], seed=seed)], tmp_path / f"{name}.pack")
    with pytest.raises(Interrupted):
        train(tasks[1:], tmp_path / "p.pack", watcher=StopsAt(3))
    shutil.copy(TrainFolder.beside(tmp_path / "p.pack").checkpoint, TrainFolder.beside(tmp_path / "q.pack").checkpoint)
    with pytest.raises(UsageError, match="it is of a training with parent '"):
        train(tasks[1:], tmp_path / "q.pack", resume=True)


def test_a_delta_for_a_pack_in_training_is_refused_at_once(tasks: list[TrainOptions], tmp_path: Path) -> None:
    """Applied, it would be the training that is refused, at its end."""
    for name in "pq":
        train(tasks[:1], tmp_path / f"{name}.pack")
    train(tasks[1:], tmp_path / "q.pack")
    delta = tmp_path / "b.safetensors"
    extract_delta(Pack.open(tmp_path / "q.pack"), "b", delta)
    refusals = list[PackNetError]()

    class Intrudes(Silent):
        def batch(self, images: int, loss: float) -> None:
            with pytest.raises(EnvironmentFault, match=r"p\.pack: another process is writing to it") as caught:
                apply_delta(Pack.open(tmp_path / "p.pack"), delta)
            refusals.append(caught.value)

    train(tasks[1:], tmp_path / "p.pack", watcher=Intrudes())
    assert refusals
    assert outcome(tmp_path / "p.pack") == outcome(tmp_path / "q.pack")


def test_two_processes_do_not_train_in_one_folder(tasks: list[TrainOptions], tmp_path: Path) -> None:
    path, refusals = tmp_path / "p.pack", list[PackNetError]()

    class Intrudes(Silent):
        def batch(self, images: int, loss: float) -> None:
            if len(refusals) < 2:
                with pytest.raises(EnvironmentFault, match=r"p\.train: another process is writing to it") as caught:
                    train(tasks, path, resume=bool(refusals))
                refusals.append(caught.value)

    train(tasks[:1], path, watcher=Intrudes())
    assert len(refusals) == 2
    assert outcome(path)
