"""How tasks share a network: PackNet, and what it is compared with.

A method is a function ``train(tasks, pack_path, session)`` that trains what the pack does not hold yet and yields a
``TaskResult`` for each task. All of them use the same recipe, images, schedule, loop, logs and checkpoint; they differ
in what may change, what is minimised, and what is pruned.

    packnet.py       packnet: train → prune → retrain → freeze, weight by weight
    relearn.py       teaching what is left of a pruned pretrained network to see as the whole did

    filters.py       filter-pruning: the same by whole filters, so that one forward answers all tasks
    channels.py      which filters make a channel, which weights read it, whom it belongs to
    following.py     following channels through a network
    simultaneous.py  all tasks of such a pack from one forward
    taylor.py        what a weight or a channel is worth, judged by images

    plain.py         classifier-only, head-and-norm, individual: the baselines that frame PackNet

    joint.py         joint: one network, all tasks' images at once
    lwf.py           lwf: one network that keeps changing, held back by distillation
    together.py      what these two have in common
    shared.py        their network: a head for each task, in one wide layer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_deploy.errors import UsageError
from packnet_deploy.training.options import TrainOptions, flag

if TYPE_CHECKING:
    from packnet_deploy.training.session import Session, TaskResult

__all__ = ["Method", "method_of"]

Method = Callable[[Sequence[TrainOptions], Path, "Session"], "Iterator[TaskResult]"]

# What only weight-by-weight packing has a place for: asked for elsewhere, it would silently mean nothing.
_PACKNET_ONLY = (
    *("pattern", "layers", "separate", "layer_rates", "score", "max_drop", "tasks_to_come", "last", "reference"),
)


def method_of(tasks: Sequence[TrainOptions]) -> Method:
    """The method that the tasks ask for.

    Raises:
        UsageError: they ask for several, or for something that the method has no place for.
    """
    name = tasks[0].method
    for task in tasks:
        if task.method != name:
            raise UsageError(f"--method: expected one for all tasks, got {name!r} and {task.method!r}")
        for option in _PACKNET_ONLY if name != "packnet" else ():
            if getattr(task, option) not in (getattr(TrainOptions(), option), ()):  # empty: nothing is asked for
                raise UsageError(f"{flag(option)}: method {name} has no place for it; leave it out")
    return _methods()[name]


def _methods() -> dict[str, Method]:
    from packnet_deploy.training.methods.filters import filter_pruning
    from packnet_deploy.training.methods.joint import joint
    from packnet_deploy.training.methods.lwf import lwf
    from packnet_deploy.training.methods.packnet import packnet
    from packnet_deploy.training.methods.plain import classifier_only, head_and_norm, individual

    return {
        "packnet": packnet,
        "filter-pruning": filter_pruning,
        "classifier-only": classifier_only,
        "head-and-norm": head_and_norm,
        "individual": individual,
        "joint": joint,
        "lwf": lwf,
    }
