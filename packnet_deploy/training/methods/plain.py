"""The baselines that frame PackNet: little on one task's network, or a whole network for each task.

*Classifier only*: task 1's network as it is, unpruned; later tasks train a head on it and nothing else.
*Head and normalisation*: the same, but later tasks train normalisation of their own as well, parameters and running
statistics: a few thousand numbers, and often as good as much more. It is no baseline of the paper. On a network
without normalisation (AlexNet, VGG without BatchNorm, SqueezeNet) it is classifier only.
*Individual*: every task trains all of a network of its own, from the same start; one pack a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from packnet_deploy.training.methods.packnet import into_one_pack
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import Session, TaskResult, drop_stale


def classifier_only(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """Task 1 takes every weight, so nothing is left to claim, and the others begin with claiming nothing."""
    nothing = [replace(_unpruned(task), layers="classifier", separate=()) for task in tasks]
    return into_one_pack(nothing, pack_path, session)


def head_and_norm(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """As ``classifier_only``, with normalisation of their own for the tasks after the first."""
    own = [replace(_unpruned(task), layers="classifier", separate=("norm",)) for task in tasks]
    return into_one_pack(own, pack_path, session)


def individual(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """One unpruned pack a task, beside ``pack_path`` and named after it and the task."""
    first = tasks[0]
    for task in tasks:
        alone = replace(
            _unpruned(task),
            arch=task.arch or first.arch,
            weights=task.weights or first.weights,
            image_size=task.image_size or first.image_size,
        )
        path = individual_path(pack_path, task.task)
        if session.world.writes:
            drop_stale(session.folder, path)
        yield from into_one_pack([alone], path, session, pass_over=session.resume or len(tasks) > 1)


def individual_path(pack_path: Path, task: str) -> Path:
    """``birds.pack`` and ``owls`` to ``birds-owls.pack``."""
    return pack_path.with_name(f"{pack_path.name.removesuffix('.pack')}-{task}.pack")


def _unpruned(task: TrainOptions) -> TrainOptions:
    return replace(
        task,
        prune_rate=0.0,
        layer_rates=(),
        prune_steps=1,
        retrain_epochs=0,
        retrain_milestones=None,
    )
