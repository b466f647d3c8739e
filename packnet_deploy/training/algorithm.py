"""PackNet's cycle, whole: train → prune → retrain → freeze, task after task, in one set of weights.

Pure functions over (weights, owner maps); nothing here knows a module, an optimiser or a file. What keeps frozen
weights still while an optimiser runs is guard.py; the nn.Module around it is network.py.

    state = start(shapes)                         no task yet, every weight free
    state = begin(state)                          task 1 claims every free weight, and trains them
    state, weights = prune(state, weights, 0.75)  three quarters of them go back: zero, and free
                                                  (retrain: the same training, on what is left)
    state = freeze(state)                         task 1's weights never change again
    state = begin(state)                          task 2 claims what is free …

Source: Mallya and Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning", CVPR 2018,
section 3 (https://arxiv.org/abs/1711.05769).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from packnet_deploy.errors import CheckFailed, StepOrderError, UsageError
from packnet_deploy.pack.owners import FREE, MAX_TASKS

Weights = dict[str, Tensor]
Owners = dict[str, Tensor]  # uint8, by the weights' names


class Phase(enum.Enum):
    """Where the cycle stands; the value says what happens there."""

    FROZEN = "no task in training"
    TRAINING = "training on every weight that was free"
    RETRAINING = "pruned, retraining what is left"


@dataclass(frozen=True)
class Packing:
    """The state of the cycle: who owns what, and what ``task`` (the current or the last one) is doing."""

    owners: Owners
    task: int = 0
    phase: Phase = Phase.FROZEN

    @property
    def free(self) -> int:
        """How many weights no task owns."""
        return sum(int((owner == FREE).sum()) for owner in self.owners.values())

    def trainable(self, name: str) -> Tensor:
        """Bool, of the weight's shape: which weights the optimiser may change now."""
        owner = self.owners[name]
        return torch.zeros_like(owner, dtype=torch.bool) if self.phase is Phase.FROZEN else owner == self.task


def start(weights: Mapping[str, Tensor]) -> Packing:
    """No task yet: every weight is free."""
    return Packing({name: torch.zeros_like(weight, dtype=torch.uint8) for name, weight in weights.items()})


def begin(state: Packing) -> Packing:
    """The next task claims every free weight. Those are 0, except before task 1, where they are the given network's.

    Raises:
        StepOrderError: another task is in training.
        UsageError: nothing is free.
    """
    _require(state, "begin", Phase.FROZEN)
    if state.free == 0:
        raise UsageError(f"task {state.task + 1}: no free weights are left in the network; prune earlier tasks harder")
    if state.task == MAX_TASKS:
        raise UsageError(f"task {state.task + 1}: a pack holds at most {MAX_TASKS} tasks")
    task = state.task + 1
    owners = {name: owner.masked_fill(owner == FREE, task) for name, owner in state.owners.items()}
    return Packing(owners, task, Phase.TRAINING)


def prune(state: Packing, weights: Mapping[str, Tensor], rate: float | Mapping[str, float]) -> tuple[Packing, Weights]:
    """Give back the smallest ``rate`` of the current task's weights, layer by layer: they become 0 and free.

    Args:
        weights: values by name; not changed.
        rate: fraction 0..1 of each layer's current weights, or one per layer by name.

    Returns:
        The state, and new weights in which the pruned ones are 0.

    Raises:
        StepOrderError: the current task is not in its first training.
        UsageError: a rate outside 0..1, or rates that are not one for each layer.
        CheckFailed: a weight is NaN, so there is no order among magnitudes.
    """
    _require(state, "prune", Phase.TRAINING)
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(state.owners, rate)
    if differ := sorted(rates.keys() ^ state.owners.keys()):
        raise UsageError(f"prune rates: expected one for each packable parameter; missing or unknown: {differ[0]!r}")
    owners, pruned = {}, {}
    for name, owner in state.owners.items():
        held = owner == state.task
        if bool((weights[name].isnan() & held).any()):
            raise CheckFailed(f"parameter {name!r}: a weight is NaN; train with a lower learning rate")
        drop = smallest(weights[name], held, rates[name])
        owners[name] = owner.masked_fill(drop, FREE)
        pruned[name] = weights[name].masked_fill(drop, 0)
    return Packing(owners, state.task, Phase.RETRAINING), pruned


def smallest(weight: Tensor, held: Tensor, rate: float) -> Tensor:
    """Bool, of the weight's shape: the k smallest magnitudes among ``held``, lower index first among equals.

    k = round-half-even(rate · n), n the number held. By selection, not sorting: linear time, and exact for layers
    of any size (quantiles in float32 are not beyond 2^24 weights).
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"prune rate: expected 0..1, got {rate}")
    magnitude = weight.detach()[held].abs()  # C order
    k = round(rate * len(magnitude))
    drop = torch.zeros_like(held)
    if k > 0:
        threshold = magnitude.kthvalue(k).values
        below = magnitude < threshold
        ties = (magnitude == threshold).nonzero().reshape(-1)
        below[ties[: k - int(below.sum())]] = True
        drop[held] = below
    return drop


def freeze(state: Packing) -> Packing:
    """The current task is done; its weights never change again.

    Raises:
        StepOrderError: it has not been pruned (a last task may be pruned by 0, and so takes everything).
    """
    _require(state, "freeze", Phase.RETRAINING)
    return replace(state, phase=Phase.FROZEN)


def _require(state: Packing, call: str, legal: Phase) -> None:
    if state.phase is not legal:
        after = {Phase.FROZEN: "begin", Phase.TRAINING: "prune", Phase.RETRAINING: "freeze"}
        raise StepOrderError(
            f"{call}() is out of order: task {state.task} is in phase {state.phase.name} ({state.phase.value}), "
            f"where only {after[state.phase]}() is legal; {call}() needs {legal.name}"
        )
