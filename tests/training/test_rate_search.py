"""``--max-drop``, ``--tasks-to-come`` and ``--last`` in whole trainings; the search alone is test_search.py's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_training import QUICK, Silent, StopsAt, contents, make_training_small, recipe, train

from packnet_deploy.errors import Interrupted, UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.training import task
from packnet_deploy.training.inference import Errors
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import TaskResult, train_tasks
from packnet_deploy.training.train_folder import TrainFolder

Coloured = Callable[..., Path]
LEARNS: dict[str, Any] = {"protocol": "paper", "lr": 0.1, "milestones": (), "epochs": 6, "retrain_epochs": 2}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_small(monkeypatch.setattr)


@pytest.fixture
def colours(coloured: Coloured) -> Path:
    return coloured("a", classes=3, train=8, val=20, test=4)


def trained(path: Path, data: Path, watcher: Silent | None = None, **changes: Any) -> TaskResult:
    (result,) = train_tasks(recipe(data, **(LEARNS | changes)), path, watcher or Silent())
    return result


def free(pack: Pack) -> float:
    """The fraction of the room that is left."""
    layers = pack.capacity()
    return sum(layer.free for layer in layers) / sum(layer.room for layer in layers)


def judged_by(monkeypatch: pytest.MonkeyPatch, breaks: float) -> None:
    """Let the validation error of a network pruned by more than ``breaks`` be 1, of all others 0."""

    def errors(module: Any, batches: Any, tensors: Any = None) -> Errors:
        weight = module.get_parameter("fc.weight")
        return Errors(float((weight == 0).float().mean().item() > breaks + 0.003), 0.0)

    monkeypatch.setattr(task, "errors", errors)


def test_the_rate_found_is_the_highest_within_the_drop(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, 0.86)
    watcher = Silent()
    result = trained(tmp_path / "p.pack", colours, watcher, max_drop=0.05)
    report = result.pack.header("a").report
    assert report["rate_search"] == {
        "max_drop": 0.05,
        "unpruned": 0.0,
        "rate": 0.85,
        "errors_by_rate": [[0.5, 0], [0.6, 0], [0.7, 0], [0.8, 0], [0.85, 0], [0.9, 1]],
        "more_tasks_like_it": 5,
    }
    assert report["prune_rate"] == 0.85
    assert free(result.pack) == pytest.approx(0.85, abs=2e-3)
    assert [name for name, *_ in watcher.phases] == [
        "a: train",
        *(f"a: try {rate}" for rate in (0.5, 0.6, 0.7, 0.8, 0.9)),
        *("a: whole 0.9", "a: try 0.85"),
        "a: retrain",
    ]
    assert watcher.notes == [
        "a: pruned by 0.85; validation error 0.0 % unpruned, by rate 0.5: 0.0 %, 0.6: 0.0 %, 0.7: 0.0 %, 0.8: 0.0 %, "
        "0.85: 0.0 %, 0.9: 100.0 %; room for 5 more tasks like it"
    ]
    assert result.warnings == ()


def test_on_real_errors_it_keeps_within_the_drop(tmp_path: Path, colours: Path) -> None:
    result = trained(tmp_path / "p.pack", colours, max_drop=0.1, prune_rate=1.0)  # where nothing is left
    report = result.pack.header("a").report
    unpruned, after = (report["errors"][moment]["val"][0] for moment in ("trained", "retrained"))
    assert after <= unpruned + 0.1 + 1e-6
    assert free(result.pack) == pytest.approx(report["rate_search"]["rate"], abs=2e-3)
    assert report["rate_search"]["rate"] < 1


def test_retraining_that_does_harm_in_the_end_is_taken_back(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = task.TaskTraining._judge

    def judge(self: Any, stage: Any) -> None:
        if stage.final:
            monkeypatch.setattr(task, "errors", lambda *_: Errors(1.0, 0.0))
        seen.append(self.network.module.get_parameter("fc.weight").detach().clone())
        original(self, stage)
        seen.append(self.network.module.get_parameter("fc.weight").detach().clone())
        judged_by(monkeypatch, 1)

    judged_by(monkeypatch, 1)
    monkeypatch.setattr(task.TaskTraining, "_judge", judge)
    trained(tmp_path / "p.pack", colours, max_drop=0.05, prune_rate=0.6)
    (_, at_the_half), (_, at_the_end), (changed, back) = zip(seen[::2], seen[1::2], strict=True)
    assert not at_the_half.equal(at_the_end)
    assert not changed.equal(at_the_end)
    assert back.equal(at_the_end)


def test_under_a_pattern_the_rate_counts_the_room(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, 0.86)  # of all weights: 0.72 of the half that can have an owner
    result = trained(tmp_path / "p.pack", colours, max_drop=0.05, pattern="2:4")
    assert result.pack.header("a").report["rate_search"]["rate"] == 0.7
    assert free(result.pack) == pytest.approx(0.7, abs=3e-3)


@pytest.mark.parametrize("score", ["magnitude", "taylor"])
def test_it_goes_on_from_any_step_to_the_same_bytes(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch, score: str
) -> None:
    judged_by(monkeypatch, 0.86)
    tasks = recipe(colours, **(LEARNS | {"epochs": 1, "retrain_epochs": 1, "max_drop": 0.05, "score": score}))
    whole, whole_watcher = tmp_path / "whole.pack", StopsAt()
    train(tasks, whole, watcher=whole_watcher)
    path, resumed = tmp_path / "p.pack", False
    for step in (8, 10, 9, 9):  # in tries before and after the one that breaks, and in the last epochs
        with pytest.raises(Interrupted):
            train(tasks, path, resume=resumed, watcher=StopsAt(step))
        resumed = True
    train(tasks, path, resume=True)
    assert contents(path) == contents(whole)
    logs = [[row[:-2] for row in TrainFolder.beside(pack).log().rows()] for pack in (path, whole)]
    assert json.dumps(logs[0]) == json.dumps(logs[1])
    assert [row[1] for row in logs[0]][-3:] == ["whole 0.9", "try 0.85", "retrain"]


def test_too_few_images_to_see_the_drop_are_said_before_and_after(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, 1)
    watcher = Silent()
    result = trained(tmp_path / "p.pack", colours, watcher, max_drop=0.01, prune_rate=0.5)
    (warning,) = result.warnings
    assert warning.startswith(
        "--max-drop 0.01 cannot be seen on 60 validation images, where one is 0.0167; it takes 200"
    )
    assert watcher.notes[0] == f"a: {warning}"
    assert result.pack.header("a").report["warnings"] == [warning]


def test_without_validation_images_there_is_no_drop_to_see(tmp_path: Path, coloured: Coloured) -> None:
    with pytest.raises(UsageError, match="--max-drop: expected validation images to see the drop on, got none"):
        trained(tmp_path / "p.pack", coloured("b"), max_drop=0.01, val_fraction=0.0)
    assert not (tmp_path / "p.pack").exists()


def test_tasks_to_come_share_out_what_is_free(tmp_path: Path, colours: Path) -> None:
    path, quick = tmp_path / "p.pack", LEARNS | {"epochs": 1, "retrain_epochs": 1}
    (first,) = recipe(colours, tasks_to_come=2, **quick)
    others = [
        TrainOptions(task=name, data=str(colours), **(QUICK | quick | {key: value}))
        for name, key, value in (("b", "tasks_to_come", 1), ("c", "last", True))
    ]
    train([first, *others], path)
    layers = Pack.open(path).capacity()
    size = sum(layer.size for layer in layers)
    shares = [sum(layer.owned[index] for layer in layers) / size for index in range(3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=2e-3)
    rows = [row[:2] for row in TrainFolder.beside(path).log().rows()]
    assert rows[-2:] == [["c", "train"], ["c", "train"]], "all epochs before, none after"


def test_tasks_to_come_that_the_drop_has_no_room_for(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, 0.7)
    result = trained(tmp_path / "p.pack", colours, max_drop=0.05, tasks_to_come=3)
    assert result.pack.header("a").report["rate_search"]["errors_by_rate"] == [[0.75, 1]]
    assert free(result.pack) == pytest.approx(0.75, abs=2e-3)
    assert result.warnings[0] == (
        "--tasks-to-come 3 takes a rate of 0.75, and there the validation error rose by 100.0 points, which --max-drop "
        "0.05 does not allow; leave room for fewer tasks, or allow more"
    )
