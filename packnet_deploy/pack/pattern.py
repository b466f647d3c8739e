"""The 2:4 pattern: of every 4 consecutive input channels, for each output channel and kernel pixel, at most 2 weights.

It is what the sparse tensor cores of NVIDIA's GPUs take. A parameter carries it when the union over all tasks obeys
it; every task's materialised weights do then, because supports nest. Choosing weights by it is
``packnet_deploy/training/pattern.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

PATTERN = "2:4"
GROUP = 4  # consecutive sizes of dimension 1: a convolution's input channels, a linear layer's inputs
KEPT = 2


def fits(shape: Sequence[int]) -> bool:
    """Whether a weight ``[outputs, inputs, ...]`` divides into whole groups."""
    return len(shape) > 1 and shape[1] % GROUP == 0


def budget(size: int) -> int:
    """How many of a patterned parameter's ``size`` weights can have an owner."""
    return size // GROUP * KEPT


def obeys(present: npt.NDArray[np.bool_]) -> bool:
    """Whether at most 2 are set in every group of a bool array whose shape ``fits``."""
    groups = present.reshape(present.shape[0], -1, GROUP, *present.shape[2:])
    return bool((np.count_nonzero(groups, axis=2) <= KEPT).all())
