"""The folder beside the pack: its tables, the tasks asked for last, and one process at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.train_folder import Table, TrainFolder


@pytest.fixture
def folder(tmp_path: Path) -> TrainFolder:
    return TrainFolder.beside(tmp_path / "birds.pack")


@pytest.mark.parametrize(
    ("pack", "beside"),
    [("a/birds.pack", "a/birds.train"), ("birds", "birds.train"), ("a.b.pack", "a.b.train"), ("x.y", "x.y.train")],
)
def test_it_lies_beside_the_pack(pack: str, beside: str) -> None:
    assert TrainFolder.beside(Path(pack)).path == Path(beside)


# -- tables --------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "new" / "t.csv", ("task", "epoch", "loss"), key=2)


def test_a_row_written_again_takes_the_place_of_the_old_one(table: Table) -> None:
    assert table.rows() == []
    table.put([("a", 1, 0.5), ("a", 2, 0.25)])
    table.put([("a", 2, 0.125), ("b", 1, 1e-7)])
    table.put([])
    assert table.rows() == [["a", "1", "0.5"], ["a", "2", "0.125"], ["b", "1", "1e-07"]]


def test_numbers_read_back_the_same(table: Table) -> None:
    numbers = [0.1 + 0.2, 1 / 3, 1e-300, 12345678.9]
    table.put([("a", i, number) for i, number in enumerate(numbers)])
    assert [float(row[2]) for row in table.rows()] == numbers


def test_rows_of_one_task_can_be_dropped(table: Table, tmp_path: Path) -> None:
    table.put([("a", 1, 0), ("b", 1, 0), ("a", 2, 0)])
    table.drop("a")
    assert table.rows() == [["b", "1", "0"]]
    written = (tmp_path / "new/t.csv").stat().st_mtime_ns
    table.drop("c")
    assert (tmp_path / "new/t.csv").stat().st_mtime_ns == written, "nothing to drop, nothing to write"


def test_anyone_can_read_it(table: Table, tmp_path: Path) -> None:
    table.put([("a", 1, 0.5)])
    assert (tmp_path / "new/t.csv").read_text() == "task,epoch,loss\na,1,0.5\n"
    with open(tmp_path / "new/t.csv", "a") as file:
        file.write("\n")  # an editor's
    table.put([("a", 2, 0.5)])
    assert [row[1] for row in table.rows()] == ["1", "2"]


def test_the_columns(folder: TrainFolder) -> None:
    folder.log().put([("a", "train", 1, 0.1, 2.0, 0.5, 0.0, 1.5, 100.0)])
    folder.results().put([("b", "a", 0.5, 0.0)])
    headers = [(folder.path / name).read_text().splitlines()[0].split(",") for name in ("log.csv", "results.csv")]
    assert headers == [
        ["task", "phase", "epoch", "lr", "loss", "val_top1_error", "val_top5_error", "seconds", "images_per_second"],
        ["stage", "task", "top1_error", "top5_error"],
    ]


def test_an_epoch_and_a_measurement_have_one_row(folder: TrainFolder) -> None:
    for loss in (2.0, 1.0):
        folder.log().put(
            [("a", phase, epoch, 0.1, loss, 0, 0, 0, 0) for phase in ("train", "retrain") for epoch in (1, 2)]
        )
        folder.results().put([(stage, task, loss, 0) for stage in "ab" for task in "ab"])
    assert [row[4] for row in folder.log().rows()] == ["1.0"] * 4
    assert [row[2] for row in folder.results().rows()] == ["1.0"] * 4


# -- what was asked for --------------------------------------------------------------------------------------------


def test_the_tasks_asked_for_come_back(folder: TrainFolder) -> None:
    asked = [TrainOptions(task="a", lr=0.3, separate=("norm",), pack=Path("p.pack")), TrainOptions(task="b", data="d")]
    folder.write_tasks([TrainOptions(task="before")])
    folder.write_tasks(asked)
    assert folder.read_tasks() == asked


def test_no_tasks_is_nothing_to_go_on_with(folder: TrainFolder) -> None:
    with pytest.raises(EnvironmentFault, match=r"--resume: .*birds\.train.tasks\.json: no such file; there is no"):
        folder.read_tasks()


@pytest.mark.parametrize("content", [b"", b"[", b"\xff", b"3", b"[]", b'{"task": "a"}', b"[3]", b'["a"]', b"null"])
def test_a_damaged_list_of_tasks_is_refused(folder: TrainFolder, content: bytes) -> None:
    folder.path.mkdir()
    (folder.path / "tasks.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"tasks\.json: damaged \(.+\); give the tasks again, with --resume") as no:
        folder.read_tasks()
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("options", [{"colour": "red"}, {"epochs": "3"}, {"epochs": -1}])
def test_tasks_of_another_version_are_refused(folder: TrainFolder, options: dict[str, object]) -> None:
    folder.path.mkdir()
    (folder.path / "tasks.json").write_text(json.dumps([options]))
    with pytest.raises(UsageError):
        folder.read_tasks()


# -- one process at a time -----------------------------------------------------------------------------------------


def test_two_cannot_train_in_it_and_the_refused_one_leaves_it_alone(folder: TrainFolder) -> None:
    with folder.held():
        folder.write_tasks([TrainOptions(task="a")])  # all there is before the first epoch has ended
        for _ in range(2):
            with (
                pytest.raises(EnvironmentFault, match=r"birds\.train: another process is writing to it"),
                folder.held(),
            ):
                pytest.fail("held twice")
        assert folder.read_tasks()[0].task == "a"
        folder.log().put([("a", "train", 1, 0, 0, 0, 0, 0, 0)])
    with folder.held():
        pass
    assert folder.log().rows()


def test_one_of_several_processes_holds_it(folder: TrainFolder) -> None:
    with folder.held(), folder.held(writes=False):
        pass
    with folder.held(writes=False):
        assert not folder.path.exists()


def test_nothing_is_left_of_a_training_that_came_to_nothing(folder: TrainFolder) -> None:
    with folder.held():
        folder.write_tasks([TrainOptions(task="a")])
    assert not folder.path.exists()
    with folder.held():
        folder.write_tasks([TrainOptions(task="a")])
        folder.checkpoint.write_bytes(b"")
    assert folder.checkpoint.exists()
