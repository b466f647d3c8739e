"""Owner algebra: pure functions on owner maps (uint8: 0 = free, k = first used by task k).

The owner map is the one source of truth; every mask in this project is derived from it here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packnet_deploy.pack.pattern import PATTERN, budget

FREE = 0
MAX_TASKS = 255

OwnerMap = npt.NDArray[np.uint8]


def support(owner: OwnerMap, task: int) -> npt.NDArray[np.bool_]:
    """The weights task ``task`` runs on: owned by tasks 1..task. Same shape as ``owner``."""
    mask: npt.NDArray[np.bool_] = (owner != FREE) & (owner <= task)
    return mask


def count_by_owner(owner: OwnerMap, tasks: int) -> npt.NDArray[np.int64]:
    """int64 ``[tasks + 1]``: how many weights are free (index 0) and how many each task owns."""
    counts = np.bincount(owner.reshape(-1), minlength=tasks + 1)
    if len(counts) > tasks + 1:
        raise ValueError(f"owner map names task {len(counts) - 1}, but there are {tasks} tasks")
    return counts.astype(np.int64)


@dataclass(frozen=True)
class LayerCapacity:
    """Who owns how much of one packable parameter; ``owned[k - 1]`` belongs to task k. Unit: weights.

    Attributes:
        pattern: "2:4" where at most 2 of 4 weights can have an owner, else "".
    """

    name: str
    size: int
    owned: tuple[int, ...]
    pattern: str = ""

    @property
    def room(self) -> int:
        """How many of the weights can have an owner: all of them, or half of them under 2:4."""
        return budget(self.size) if self.pattern else self.size

    @property
    def free(self) -> int:
        """How many more can get an owner. A task in training may hold more than it can keep: 0 then."""
        return max(0, self.room - sum(self.owned))


def capacity(owners: Mapping[str, OwnerMap], tasks: int, patterned: Collection[str] = ()) -> tuple[LayerCapacity, ...]:
    """Capacity of every packable parameter, in the mapping's order; ``patterned`` names those under 2:4."""
    return tuple(
        LayerCapacity(
            name,
            owner.size,
            tuple(int(c) for c in count_by_owner(owner, tasks)[1:]),
            PATTERN if name in patterned else "",
        )
        for name, owner in owners.items()
    )
