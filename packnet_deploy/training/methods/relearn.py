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

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from packnet_deploy.training.fit import Objective
from packnet_deploy.training.parts import find_head
from packnet_deploy.training.session import images_of, open_data
from packnet_deploy.training.task import Lesson, TaskTraining

_NOISY = (nn.modules.dropout._DropoutNd, StochasticDepth)


def relearning_lesson(training: TaskTraining) -> Lesson:
    """What a network taken as it is learns from after pruning: itself, on the images that ``reference`` names."""
    options = training.options
    shown = replace(options, data=options.reference, reference=None, epochs=options.retrain_epochs, milestones=None)
    images = images_of(shown, open_data(shown), training.network, training.session)
    objective = relearning(training.network.module, training.network.head)
    return Lesson(images.train, objective=objective, verb="relearn", reaches_head=False)


def relearning(module: nn.Module, head: str) -> Objective:
    """The distance of the features that ``module`` gives its head from those it gave when this was called.

    The squared distance as a share of the features' own squares, over the batch: 0 when nothing has been forgotten.
    Dropout and stochastic depth are left out: their noise would count as distance, and be made smaller by smaller
    features.
    """
    teacher = copy.deepcopy(module).requires_grad_(False).eval()
    noisy = [part for part in module.modules() if isinstance(part, _NOISY)]

    def objective(trained: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        for part in noisy:
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
