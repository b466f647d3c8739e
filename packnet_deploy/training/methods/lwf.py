"""Learning without Forgetting, as the PackNet paper compares with it: all weights change, distillation holds the rest.

When a task is added, its head is trained alone for the first epochs: five of the paper's twenty, a quarter of fewer.
In the others everything is trained with cross-entropy on the new task plus, for every older one, the distance to what
the network answered before: cross-entropy between the two answers at temperature 2, all terms with weight 1. The
answers before are those to the very image that is shown, cut and mirrored as it is, so the network as it was (the
teacher, in eval mode) answers every batch anew.

Source: Li and Hoiem, "Learning without Forgetting", ECCV 2016, section 3 (https://arxiv.org/abs/1606.09282).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from packnet_deploy.training.fit import Objective
from packnet_deploy.training.methods.shared import ManyHeads, SharedNetwork
from packnet_deploy.training.methods.together import TogetherTraining, train_together, training_stage
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import Session, TaskResult, open_data
from packnet_deploy.training.stages import Fit

TEMPERATURE = 2.0
WARM_UP_EPOCHS = 5  # at most


def distillation(logits: Tensor, targets: Tensor) -> Tensor:
    """How far an answer is from an earlier one: the cross-entropy between them at temperature 2, mean over the batch.

    Args:
        logits: float ``[b, classes]``, of the network in training.
        targets: the same, of the network as it was.
    """
    return nn.functional.cross_entropy(logits / TEMPERATURE, (targets / TEMPERATURE).softmax(dim=1))


def lwf_objective(heads: ManyHeads, teacher: ManyHeads | None) -> Objective:
    """Cross-entropy on the newest task, plus the distillation of every older one, which the ``teacher`` answers for."""
    *older, newest = heads.classes

    def objective(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = module(images)
        loss = nn.functional.cross_entropy(logits[:, heads.columns(newest)], labels)
        if teacher is None:
            return loss
        with torch.no_grad():
            targets = teacher.network(images)
        return loss + sum(
            distillation(logits[:, heads.columns(task)], targets[:, heads.columns(task)]) for task in older
        )

    return objective


class StudentNetwork(SharedNetwork):
    """A shared network beside itself as it was when its newest task came."""

    teacher: ManyHeads | None = None

    def add(self, task: str, classes: Sequence[str], *, keep_head: bool = False) -> None:
        """Another head; if it is not the first, the network as it is becomes the teacher."""
        super().add(task, classes, keep_head=keep_head)
        self._remember()

    def snapshot(self) -> dict[str, Any]:
        return super().snapshot() | {"teacher": self.teacher.state_dict() if self.teacher else {}}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        super().restore(snapshot)
        self._remember()
        if self.teacher:
            self.teacher.load_state_dict(snapshot["teacher"])

    def _remember(self) -> None:
        self.teacher = None
        if len(self.module.classes) > 1:
            self.teacher = copy.deepcopy(self.module).requires_grad_(False).eval()


def lwf(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """Task after task in one network; one pack of its last state."""
    return train_together(tasks, pack_path, session, train_one_by_one, StudentNetwork)


def train_one_by_one(training: TogetherTraining[StudentNetwork]) -> None:
    """Task after task in one network that never stops changing."""
    for number, options in enumerate(training.tasks):
        if number >= training.keeper.stage // 2:  # two stages a task
            _add_task(training, number, options)


def _add_task(training: TogetherTraining[StudentNetwork], number: int, options: TrainOptions) -> None:
    network, keeper = training.network, training.keeper
    keeper.task = options.task
    images = training.begin(options, open_data(options))
    for place, stage in enumerate(lwf_stages(options, number), start=2 * number):
        if stage is None or images.train is None or place < keeper.stage:
            continue
        keeper.stage = place
        if stage.phase == "warm-up":
            network.train_head(options.task)
        else:
            network.train_everything()
        objective = lwf_objective(network.module, network.teacher)
        training.fit(options.task, stage, images.train, images.val, objective)
    network.train_everything()
    training.measure({options.task: images})


def lwf_stages(options: TrainOptions, number: int) -> tuple[Fit | None, Fit | None]:
    """The head's warm-up, unless the task is the first (``number`` 0), and the training of everything.

    Together they are the epochs that were asked for, on one schedule.
    """
    stage = training_stage(options)
    alone = min(WARM_UP_EPOCHS, stage.end // 4) if stage and number else 0
    if stage is None or not alone:
        return None, stage
    return replace(stage, phase="warm-up", end=alone), replace(stage, begin=alone)
