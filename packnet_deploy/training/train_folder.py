"""What training keeps beside the pack ``birds.pack``, in ``birds.train/``: logs, results, the checkpoint, the request.

    tasks.json       the tasks asked for, with all options; what ``--resume`` alone goes on with
    log.csv          one row an epoch
    results.csv      errors on the test images, of every task, after each stage (the training of a task)
    checkpoint.pt    while a task is in training

Each file is replaced by rename. Rows have a key, and a row written again replaces the old one: a stage that is run
once more after a crash leaves no double rows.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.pack.atomic import locked, replacing
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import from_json, to_json

SUFFIX, TASKS = ".train", "tasks.json"
LOG_COLUMNS = (
    *("task", "phase", "epoch", "lr", "loss"),
    *("val_top1_error", "val_top5_error", "seconds", "images_per_second"),
)
RESULT_COLUMNS = ("stage", "task", "top1_error", "top5_error")


class TrainFolder:
    """The files of one training. Made when first written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, pack: Path) -> TrainFolder:
        """The folder of the pack at ``pack``: ``birds.train`` for ``birds.pack``."""
        return cls(pack.with_name(pack.name.removesuffix(".pack") + SUFFIX))

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @contextlib.contextmanager
    def held(self, writes: bool = True) -> Iterator[None]:
        """The folder, made if need be and locked, for the process that ``writes``; gone again if nothing came of it.

        Raises:
            EnvironmentFault: another process trains here, or there is no folder to make it in.
        """
        if not writes:
            yield
            return
        if not self.path.parent.is_dir():
            raise EnvironmentFault(f"{self.path.parent}: expected a folder to train in, got none; make it first")
        self.path.mkdir(exist_ok=True)
        with locked(self.path):
            try:
                yield
            finally:
                if not {entry.name for entry in self.path.iterdir()} - {TASKS}:
                    shutil.rmtree(self.path)

    def log(self) -> Table:
        """log.csv: an epoch's learning rate, mean loss, validation errors (0..1), seconds and images/s."""
        return Table(self.path / "log.csv", LOG_COLUMNS, key=3)

    def results(self) -> Table:
        """results.csv: ``task``'s errors (0..1) on its test images after ``stage``, the training of a task."""
        return Table(self.path / "results.csv", RESULT_COLUMNS, key=2)

    def write_tasks(self, tasks: Sequence[TrainOptions]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.path / TASKS) as file:
            file.write(json.dumps([to_json(task) for task in tasks], indent=1).encode())

    def read_tasks(self) -> list[TrainOptions]:
        """The tasks asked for last.

        Raises:
            EnvironmentFault: there are none.
            ArtefactError: the file is damaged.
        """
        path = self.path / TASKS
        try:
            tasks = json.loads(path.read_bytes())
            if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
                raise ValueError("it lists no tasks")
            return [from_json(task, str(path)) for task in tasks]
        except FileNotFoundError as error:
            raise EnvironmentFault(f"--resume: {path}: no such file; there is no training to go on with") from error
        except ValueError as error:
            raise ArtefactError(f"{path}: damaged ({error}); give the tasks again, with --resume") from error


class Table:
    """A small CSV file. Numbers are written so that they read back the same."""

    def __init__(self, path: Path, columns: Sequence[str], key: int) -> None:
        self._path, self._columns, self._key = path, tuple(columns), key

    def rows(self) -> list[list[str]]:
        """All rows, without the header; none if there is no file."""
        try:
            rows = list(csv.reader(io.StringIO(self._path.read_text("utf-8"))))
        except FileNotFoundError:
            return []
        return [row for row in rows[1:] if row]

    def put(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows; one with the key (the first columns) of a row that is there takes its place."""
        merged = {tuple(row[: self._key]): row for row in self.rows()}
        if new := {tuple(map(str, row[: self._key])): [str(value) for value in row] for row in rows}:
            self._write(list((merged | new).values()))

    def drop(self, first: str) -> None:
        """Remove the rows whose first column is ``first``."""
        if len(kept := [row for row in self.rows() if row[0] != first]) < len(self.rows()):
            self._write(kept)

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self._columns, *rows])
        with replacing(self._path) as file:
            file.write(text.getvalue().encode())
