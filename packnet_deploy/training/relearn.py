"""Relearning: what is left of a pruned network learns to see again what the whole network saw, from whatever images.

A pretrained network comes without the images it was trained on, so it cannot be retrained after pruning as the paper
retrains it. But it can be its own teacher: the network as it was given looks at the images at hand, and the pruned
one learns to hand its head the same features. Labels are not looked at, so the images of any task will do.
What that gives is in docs/results.md.

Source of the idea, features as a teacher's hints: Romero et al., "FitNets", ICLR 2015
(https://arxiv.org/abs/1412.6550).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from packnet_deploy.training.fit import Objective, fit
from packnet_deploy.training.head import find_head
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import Session, TaskTraining, images_of, open_data
from packnet_deploy.training.stages import Fit


class Relearning(TaskTraining):
    """A network taken as it is, pruned, and taught by itself on the images that ``options.reference`` names."""

    def __init__(self, options: TrainOptions, pack_path: Path, session: Session) -> None:
        super().__init__(options, pack_path, session)
        self.objective = relearning(self.network.module, self.network.head)
        shown = replace(options, data=options.reference, reference=None, epochs=options.retrain_epochs, milestones=None)
        self.shown = images_of(shown, open_data(shown), self.network, session).train

    def _fit(self, stage: Fit) -> None:
        assert self.shown is not None  # a data set has training images
        fit(
            self.network,
            stage,
            self.shown,
            (),
            self.session.watcher,
            name=f"{self.options.task}: relearn",
            objective=self.objective,
            supervisor=self.keeper,
        )


def relearning(module: nn.Module, head: str) -> Objective:
    """The distance of the features that ``module`` gives its head from those it gave when this was called.

    The squared distance as a share of the features' own squares, over the batch: 0 when nothing has been forgotten.
    Dropout is left out: its noise would count as distance, and be made smaller by smaller features.
    """
    teacher = copy.deepcopy(module).requires_grad_(False).eval()
    dropouts = [part for part in module.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]

    def objective(trained: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        for part in dropouts:
            part.eval()
        with torch.no_grad():
            target = _features(teacher, find_head(teacher, head), images)
        features = _features(trained, find_head(module, head), images)
        return (features - target).square().sum() / target.square().sum().clamp(min=torch.finfo(torch.float32).tiny)

    return objective


def _features(run: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    """What the head is handed when ``run``, the network or what distributes it, sees the images; float32."""
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0]))
    try:
        run(images)
    finally:
        handle.remove()
    return seen[0].float()
