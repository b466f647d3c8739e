"""Joint training: all tasks' images at once, one network, a head for each task.

Images are drawn by the sizes of their sets: a step takes of every task in proportion to how many images it has, and
what does not come out even is spread over the epoch. So an epoch shows each image once, no small set is through long
before a large one, and batch normalisation sees in training the mixture that its running statistics describe. Each
image's loss is the cross-entropy over its own task's classes, and counts the same whatever its task.

Source: the baseline of Mallya and Lazebnik, CVPR 2018, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from packnet_deploy.errors import UsageError
from packnet_deploy.training.fit import Batches, Objective
from packnet_deploy.training.methods.shared import ManyHeads, SharedNetwork
from packnet_deploy.training.methods.together import TogetherTraining, train_together, training_stage
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import Session, TaskResult, open_data


def shares(images: Mapping[str, int], batch_size: int) -> dict[str, int]:
    """How many images of each task go into a batch, at least one; all tasks end their epoch in the same step or so."""
    steps = ceil(sum(images.values()) / batch_size)
    return {task: ceil(count / steps) for task, count in images.items()}


def joint(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """All tasks at once; one pack."""
    return train_together(tasks, pack_path, session, train_jointly, SharedNetwork)


def train_jointly(training: TogetherTraining[SharedNetwork]) -> None:
    """All tasks in one stage, on the first task's schedule."""
    tasks = training.tasks
    stage, batch_size = training_stage(tasks[0]), tasks[0].batch_size
    opened = [(options, open_data(options)) for options in tasks]
    counts = {options.task: len(data.train) for options, data in opened if data is not None}
    if stage is None or len(counts) < len(tasks):
        raise UsageError("--method joint: expected images of every task and --epochs above 0; give them")
    training.keeper.task = "joint"
    parts = shares(counts, batch_size)
    images = {
        options.task: training.begin(replace(options, batch_size=parts[options.task]), data) for options, data in opened
    }
    heads = training.network.module
    train = MixedBatches({task: own.train for task, own in images.items() if own.train is not None}, heads)
    val = EveryTask({task: own.val for task, own in images.items()}, heads)
    training.fit(training.keeper.task, stage, train, val, joint_objective(heads))
    training.measure(images)


class MixedBatches:
    """Batches with a part of each task's; labels count the classes of all tasks, side by side.

    There are as many as the longest part has; the batches of a shorter one come at equal distances.

    Args:
        parts: each task's own loader.
        heads: says where each task's classes lie.
    """

    def __init__(self, parts: Mapping[str, Batches], heads: ManyHeads) -> None:
        self._parts, self._heads, self._skip = dict(parts), heads, 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self._skip = skip
        for part in self._parts.values():
            part.set_epoch(epoch, self._due(part, skip))

    def __len__(self) -> int:
        return max(map(len, self._parts.values()))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = [(part, iter(part), self._heads.columns(task).start) for task, part in self._parts.items()]
        for step in range(self._skip, len(self)):
            there = [
                (*next(batches), offset)
                for part, batches, offset in parts
                if self._due(part, step + 1) > self._due(part, step)
            ]
            yield torch.cat([images for images, _, _ in there]), torch.cat([y + offset for _, y, offset in there])

    def _due(self, part: Batches, steps: int) -> int:
        """How many batches of a part belong to the first ``steps`` steps."""
        return ceil(steps * len(part) / len(self))


class EveryTask:
    """The batches of every task in turn, for measuring: chooses the head that they are for."""

    def __init__(self, parts: Mapping[str, Iterable[tuple[Tensor, Tensor]]], heads: ManyHeads) -> None:
        self._parts, self._heads = dict(parts), heads

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for task, batches in self._parts.items():
            self._heads.chosen = task
            yield from batches


def joint_objective(heads: ManyHeads) -> Objective:
    """Mean over the batch of each image's cross-entropy over the classes of its own task."""

    def objective(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = module(images)
        widths = torch.tensor([len(classes) for classes in heads.classes.values()])
        owner = torch.repeat_interleave(torch.arange(len(widths)), widths).to(labels.device)
        foreign = owner != owner[labels][:, None]
        return nn.functional.cross_entropy(logits.masked_fill(foreign, -torch.inf), labels)

    return objective
