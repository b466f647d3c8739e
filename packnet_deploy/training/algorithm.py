"""PackNet's cycle, whole: train → prune → retrain → freeze, task after task, in one set of weights.

Pure functions over (weights, owner maps); nothing here knows a module, an optimiser or a file. What keeps frozen
weights still while an optimiser runs is guard.py; the nn.Module around it is cycle.py.

    state = start(weights)                        no task yet, every weight free
    state = begin(state)                          task 1 claims every free weight, and trains them
    state, weights = prune(state, weights, 0.75)  three quarters of them go back: zero, and free
                                                  (retrain: the same training, on what is left)
    state = freeze(state)                         task 1's weights never change again
    state = begin(state)                          task 2 claims what is free …

Source: Mallya and Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning", CVPR 2018,
section 3 (https://arxiv.org/abs/1711.05769). Beyond the paper: parameters that keep to 2:4 (pattern.py).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from packnet_deploy.errors import CheckFailed, StepOrderError, UsageError
from packnet_deploy.pack.owners import FREE, MAX_TASKS
from packnet_deploy.training import pattern

Weights = dict[str, Tensor]
Owners = dict[str, Tensor]  # uint8, by the weights' names


class Phase(enum.Enum):
    """Where the cycle stands; the value says what happens there."""

    FROZEN = "no task in training"
    TRAINING = "training on every weight it claimed"
    RETRAINING = "pruned, retraining what is left"


LEGAL_CALLS = {
    Phase.FROZEN: "begin()",
    Phase.TRAINING: "prune() or release()",
    Phase.RETRAINING: "prune(), release() or freeze()",
}


@dataclass(frozen=True)
class PackingState:
    """The state of the cycle: who owns what, and what ``task`` (the current or the last one) is doing.

    Attributes:
        claimed: by name, how many weights the current task could have kept when it began; rates are fractions of it.
        patterned: names of the parameters whose owned weights keep to 2:4, all tasks taken together.
    """

    owners: Owners
    task: int = 0
    phase: Phase = Phase.FROZEN
    claimed: Mapping[str, int] = field(default_factory=dict)
    patterned: frozenset[str] = frozenset()

    @property
    def free(self) -> int:
        """How many weights can still get an owner."""
        return sum(
            int(pattern.open_budget(owner).sum() if name in self.patterned else (owner == FREE).sum())
            for name, owner in self.owners.items()
        )

    def trainable(self, name: str) -> Tensor:
        """Bool, of the weight's shape: which weights the optimiser may change now."""
        owner = self.owners[name]
        return torch.zeros_like(owner, dtype=torch.bool) if self.phase is Phase.FROZEN else owner == self.task


def start(weights: Mapping[str, Tensor], patterned: Collection[str] = ()) -> PackingState:
    """No task yet: every weight is free."""
    owners = {name: torch.zeros_like(weight, dtype=torch.uint8) for name, weight in weights.items()}
    return PackingState(owners, patterned=frozenset(patterned))


def begin(state: PackingState, claim: Mapping[str, Tensor] | None = None) -> PackingState:
    """The next task claims free weights. Those are 0, except before task 1, where they are the given network's.
    (What a first task does not claim there is for the caller to set to 0.)

    Args:
        claim: bool by name: the weights that the task may take if they are free, which may be none at all.
            None: all that are free, and there must be some. Under 2:4, those of groups with open budget.

    Raises:
        StepOrderError: another task is in training.
        UsageError: nothing is free, or claims that are not one for each parameter.
    """
    _require(state, "begin", Phase.FROZEN)
    if claim is None and state.free == 0:
        size = sum(owner.numel() for owner in state.owners.values())
        raise UsageError(
            f"task {state.task + 1}: no free weights are left in the network, of {size:,}; prune earlier tasks harder"
        )
    if state.task == MAX_TASKS:
        raise UsageError(f"task {state.task + 1}: a pack holds at most {MAX_TASKS} tasks")
    if claim is not None:
        _require_each(state, "claim", claim)
    task = state.task + 1
    owners, claimed = {}, {}
    for name, owner in state.owners.items():
        takes = pattern.claimable(owner) if name in state.patterned else owner == FREE
        if claim is not None:
            takes &= claim[name].to(owner.device)
        claimed[name] = pattern.room(owner, takes) if name in state.patterned else int(takes.sum())
        owners[name] = owner.masked_fill(takes, task)
    return replace(state, owners=owners, task=task, phase=Phase.TRAINING, claimed=claimed)


def prune(
    state: PackingState,
    weights: Mapping[str, Tensor],
    rate: float | Mapping[str, float],
    score: Mapping[str, Tensor] | None = None,
) -> tuple[PackingState, Weights]:
    """Give back the least of the current task's weights, layer by layer: they become 0 and free.

    Of the n weights that a parameter gave the task, round-half-even(rate · n) are free afterwards. So pruning may be
    repeated at a higher rate, with training between. Under 2:4, n is the budget that was open, and what stays is the
    best that fits it, even at rate 0.

    Args:
        weights: values by name; not changed.
        rate: fraction 0..1, or one for each parameter by name.
        score: 0 or more by weight, of its shape: what it is worth, by name. None: its magnitude.

    Returns:
        The state, and new weights in which the pruned ones are 0.

    Raises:
        StepOrderError: no task is in training.
        UsageError: a rate outside 0..1 or below an earlier one, or rates or scores that are not one for each parameter.
        CheckFailed: a weight or a score is NaN, so there is no order.
    """
    _require(state, "prune", Phase.TRAINING, Phase.RETRAINING)
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(state.owners, rate)
    _require_each(state, "prune rates", rates)
    worth = {name: weights[name].detach().abs() for name in state.owners} if score is None else score
    _require_each(state, "scores", worth)
    return release(state, weights, {name: _surplus(state, name, worth[name], rates[name]) for name in state.owners})


def _surplus(state: PackingState, name: str, worth: Tensor, rate: float) -> Tensor:
    """Bool, of the weight's shape: what the current task must give back of one parameter."""
    if not 0 <= rate <= 1:
        raise UsageError(f"prune rate: expected 0..1, got {rate}")
    owner, claimed = state.owners[name], state.claimed[name]
    held = owner == state.task
    if bool((worth.isnan() & held).any()):
        raise CheckFailed(f"parameter {name!r}: a weight is NaN, or its score is; train with a lower learning rate")
    fits = pattern.keepable(owner.masked_fill(held, FREE), worth, held) if name in state.patterned else held
    left, kept = int(fits.sum()), claimed - round(rate * claimed)
    if kept > left:
        raise UsageError(
            f"prune rate {rate:g}: parameter {name!r} has only {left:,} of its {claimed:,} weights left, so it cannot "
            f"keep {kept:,}; expected a rate not below the one before"
        )
    return (held & ~fits) | smallest(worth, fits, left - kept)


def smallest(worth: Tensor, held: Tensor, count: int) -> Tensor:
    """Bool, of the same shape: the ``count`` smallest values among ``held``, lower index first among equals.

    By selection, not sorting: linear time, and exact for layers of any size (quantiles in float32 are not beyond
    2^24 weights).
    """
    drop = torch.zeros_like(held)
    if count > 0:
        values = worth[held]  # C order
        threshold = values.kthvalue(count).values
        below = values < threshold
        ties = (values == threshold).nonzero().reshape(-1)
        below[ties[: count - int(below.sum())]] = True
        drop.masked_scatter_(held, below)
    return drop


def release(
    state: PackingState, weights: Mapping[str, Tensor], drop: Mapping[str, Tensor]
) -> tuple[PackingState, Weights]:
    """Give back the weights that ``drop`` marks: pruning by any other rule than the least of each layer.

    Args:
        weights: values by name; not changed.
        drop: bool by name, for every parameter.

    Returns:
        As ``prune``.

    Raises:
        StepOrderError: no task is in training.
        UsageError: it marks a weight that the current task does not own, or not every parameter has a mask.
    """
    _require(state, "release", Phase.TRAINING, Phase.RETRAINING)
    _require_each(state, "release", drop)
    owners, released = {}, {}
    for name, owner in state.owners.items():
        mask = drop[name].to(owner.device)
        if foreign := int((mask & (owner != state.task)).sum()):
            raise UsageError(f"release: {foreign:,} weights of parameter {name!r} do not belong to task {state.task}")
        owners[name] = owner.masked_fill(mask, FREE)
        released[name] = weights[name].masked_fill(mask, 0)
    return replace(state, owners=owners, phase=Phase.RETRAINING), released


def freeze(state: PackingState) -> PackingState:
    """The current task is done; its weights never change again.

    Raises:
        StepOrderError: it has not been pruned (a last task may be pruned by 0, and so takes everything).
        UsageError: what it holds breaks the pattern (release alone does not see to that; ``prune`` by 0 does).
    """
    _require(state, "freeze", Phase.RETRAINING)
    for name in state.patterned:
        if not pattern.obeys(state.owners[name] != FREE):
            raise UsageError(f"parameter {name!r}: more than 2 of 4 weights have an owner; prune by 0 or more first")
    return replace(state, phase=Phase.FROZEN)


def _require(state: PackingState, call: str, *legal: Phase) -> None:
    if state.phase not in legal:
        needs = " or ".join(phase.name for phase in legal)
        raise StepOrderError(
            f"{call}() is out of order: task {state.task} is in phase {state.phase.name} ({state.phase.value}), "
            f"where only {LEGAL_CALLS[state.phase]} is legal; {call}() needs {needs}"
        )


def _require_each(state: PackingState, what: str, given: Mapping[str, object]) -> None:
    if differ := sorted(given.keys() ^ state.owners.keys()):
        raise UsageError(f"{what}: expected one for each packable parameter; missing or unknown: {differ[0]!r}")
