"""2:4 as pure functions on weights and owner maps: which weights a task may claim, and which of them it may keep.

A weight ``[outputs, inputs, ...]`` divides into groups of 4 consecutive inputs, for each output and kernel pixel; at
most 2 weights of a group may ever have an owner. What earlier tasks have left of that is the group's *open budget*.
What the pattern is for, and on which shapes it is possible: ``packnet_deploy/pack/pattern.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from packnet_deploy.pack.owners import FREE
from packnet_deploy.pack.pattern import GROUP, KEPT


def open_budget(owner: Tensor) -> Tensor:
    """int8 ``[outputs, inputs / 4, 1, ...]``: how many more weights of each group may get an owner; 0 at least."""
    owned = _grouped(owner != FREE).sum(dim=2, keepdim=True, dtype=torch.int8)
    return (KEPT - owned).clamp_min(0)


def obeys(present: Tensor) -> bool:
    """Whether at most 2 are set in every group of a bool tensor; ``pack/pattern.py``'s, on tensors."""
    return bool((_grouped(present).sum(dim=2) <= KEPT).all())


def claimable(owner: Tensor) -> Tensor:
    """Bool, of the owner map's shape: the free weights of groups whose budget is open."""
    return ((_grouped(owner) == FREE) & (open_budget(owner) > 0)).flatten(1, 2)


def room(owner: Tensor, claimed: Tensor) -> int:
    """How many of the ``claimed`` weights can be kept: each group's open budget, or its claimed weights if fewer."""
    in_group = _grouped(claimed).sum(dim=2, keepdim=True, dtype=torch.int8)
    return int(torch.minimum(in_group, open_budget(owner)).sum())


def keepable(owner: Tensor, worth: Tensor, held: Tensor) -> Tensor:
    """Bool, of the same shape: in every group the weights worth most among ``held``, as many as its open budget.

    Among equals the higher index stays, as everywhere in pruning. Any number of the best weights under the budget of
    every group is the best of these: taking the largest that still fits, again and again, is optimal here.

    Args:
        owner: the owner map before the task, without what it holds.
        worth: 0 or more by weight, none of them NaN: magnitudes, say.
    """
    values = _grouped(worth.masked_fill(~held, -1)).unbind(2)  # -1: behind every one held
    behind = [torch.zeros_like(values[0], dtype=torch.int8) for _ in range(GROUP)]  # how many are before it
    for low in range(GROUP):
        for high in range(low + 1, GROUP):
            high_first = values[high] >= values[low]
            behind[low] += high_first
            behind[high] += ~high_first
    return (_grouped(held) & (torch.stack(behind, dim=2) < open_budget(owner))).flatten(1, 2)


def _grouped(tensor: Tensor) -> Tensor:
    """``[outputs, inputs, ...]`` as ``[outputs, inputs / 4, 4, ...]``."""
    outputs, inputs, *kernel = tensor.shape
    return tensor.reshape(outputs, inputs // GROUP, GROUP, *kernel)
