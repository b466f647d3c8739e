"""``--method filter-pruning``: the usual stages of a task, with whole filters claimed and pruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packnet_deploy.errors import UsageError
from packnet_deploy.training.loader import TrainLoader
from packnet_deploy.training.methods.filters import FilterPacking
from packnet_deploy.training.methods.packnet import into_one_pack
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import Session, TaskResult
from packnet_deploy.training.task import TaskTraining


def filter_pruning(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """Task after task into one pack, each by whole filters."""
    return into_one_pack(tasks, pack_path, session, WholeFilters)


class WholeFilters:
    """A task claims whole filters, and gives the least important ones back, judged by its images.

    ``--prune-steps`` removes them by and by, judged anew in each step. The paper's table 6 removes 400 of VGG-16's
    before each of ten epochs: as many steps as retraining epochs.

    Raises:
        UsageError: it has none.
    """

    def __init__(self, training: TaskTraining) -> None:
        self._options, self.identity = training.options, dict[str, Any]()
        if training.images.train is None:
            raise UsageError(f"task {self._options.task!r}: filter pruning judges filters by images; give their --data")
        self._filters = FilterPacking(training.network)

    def begin(self, classes: tuple[str, ...], keep_head: bool) -> None:
        self._filters.begin(self._options.task, classes, keep_head=keep_head)

    def prune(self, part: float, train: TrainLoader | None) -> None:
        assert train is not None  # __init__ saw to it
        train.set_epoch(0)
        self._filters.prune(self._filters.importance(train), part * self._options.prune_rate)

    def freeze(self) -> None:
        self._filters.freeze(self._options.value_dtype)

    def keep(self, pack_path: Path) -> dict[str, Any]:
        return {}  # new filters start at random

    def snapshot(self) -> dict[str, Any]:
        return self._filters.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._filters.restore(snapshot)
