"""``--method packnet``: one task after the other into one pack, weight by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from packnet_deploy.training.loader import TrainLoader
from packnet_deploy.training.methods.relearn import relearning_lesson
from packnet_deploy.training.methods.taylor import weight_importance
from packnet_deploy.training.module import copies_of
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import Session, TaskResult, task_names
from packnet_deploy.training.stages import rates
from packnet_deploy.training.start import is_pretrained, relearns
from packnet_deploy.training.start_values import REPORT_KEY, init_path, named_init, read_init, write_init
from packnet_deploy.training.task import Packing, TaskTraining


class WeightPacking:
    """A task claims single weights, and gives the least important of each layer back."""

    def __init__(self, training: TaskTraining) -> None:
        self._options, self._network = training.options, training.network
        self._init: Mapping[str, Tensor] | None = None
        if training.pack is None:
            if is_pretrained(self._options):
                self._init = copies_of(self._network.tensors())
        elif self._options.init == "pretrained" and (named := named_init(training.pack)):
            self._init = read_init(training.pack)
            if self._init is None:
                training.session.watcher.note(
                    f"{self._options.task}: {init_path(training.path)} is not there, which held the pretrained "
                    f"network's values (sha256 {named}); free weights start from 0"
                )
        self.identity = {"init": "zero" if self._init is None else "pretrained"}

    def begin(self, classes: tuple[str, ...], keep_head: bool) -> None:
        options = self._options
        self._network.begin(
            options.task,
            classes,
            keep_head=keep_head,
            layers=options.layers,
            separate=options.separate,
            init=self._init,
        )

    def prune(self, part: float, train: TrainLoader | None) -> None:
        network, score = self._network, None
        if self._options.score == "taylor":
            assert train is not None  # start.py saw to it
            train.set_epoch(0)  # the same images in the same order, however often it is asked
            weights = {param.name: network.module.get_parameter(param.name) for param in network.packable}
            score = weight_importance(network.module, weights, train)
        network.prune(rates(self._options, part, network.packable), score)

    def freeze(self) -> None:
        self._network.freeze(self._options.value_dtype)

    def keep(self, pack_path: Path) -> dict[str, Any]:
        if self._network.state.task > 1 or self._init is None or not self._network.state.free:
            return {}
        return {REPORT_KEY: write_init(pack_path, self._init)}

    def snapshot(self) -> dict[str, Any]:
        return self._network.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._network.restore(snapshot)


def packnet(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """Task after task into one pack; those it holds are passed over where there are several, or training goes on."""
    return into_one_pack(tasks, pack_path, session)


def into_one_pack(
    tasks: Sequence[TrainOptions],
    pack_path: Path,
    session: Session,
    packing_of: Callable[[TaskTraining], Packing] = WeightPacking,
    *,
    pass_over: bool | None = None,
) -> Iterator[TaskResult]:
    """One task after the other into one pack.

    Args:
        packing_of: how a task takes its share; by default weight by weight.
        pass_over: skip tasks that the pack holds; by default where there are several, or training goes on.
    """
    skip = (len(tasks) > 1 or session.resume) if pass_over is None else pass_over
    for options in tasks:
        if not skip or options.task not in task_names(pack_path):
            lesson_of = relearning_lesson if relearns(options) else None
            yield TaskTraining(options, pack_path, session, packing_of, lesson_of).run()
        session.tests[options.task] = options
