"""``--method filter-pruning``: the usual stages of a task, with whole filters claimed and pruned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from packnet_deploy.errors import UsageError
from packnet_deploy.training.keeper import Keeper
from packnet_deploy.training.methods.filters import FilterPacking
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import Session, TaskResult, TaskTraining, into_one_pack


def filter_pruning(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """Task after task into one pack, each by whole filters."""
    return into_one_pack(tasks, pack_path, session, FilterTraining)


class FilterTraining(TaskTraining):
    """One task, by whole filters."""

    def __init__(self, options: TrainOptions, pack_path: Path, session: Session) -> None:
        super().__init__(options, pack_path, session)
        if self.images.train is None:
            raise UsageError(f"task {options.task!r}: filter pruning judges filters by images; give their --data")
        self.filters = FilterPacking(self.network)
        self.keeper = Keeper(options.task, self.filters, self.checkpoint, session.folder, session.world, session.stop)

    def begin(self) -> None:
        self.filters.begin(self.options.task, self.images.classes, keep_head=self.keep_head)

    def prune(self, part: float) -> None:
        train = self.images.train
        assert train is not None  # __init__ saw to it
        train.set_epoch(0)
        self.filters.prune(self.filters.importance(train), part * self.options.prune_rate)

    def freeze(self) -> None:
        self.filters.freeze(self.options.value_dtype)
