"""What a refit is given, and in which order: only weights that differ, through a buffer smaller than a model. Pure.

TensorRT may have merged weights (a convolution's with the scale behind it): such companions are refitted together or
not at all, so a refit gives whole clusters. Clusters are filled into the scratch buffer one after the other, as many as
fit; each filling is a group, and a refit of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.layout import Layout, Slot


@dataclass(frozen=True)
class Run:
    """Weights that lie side by side in the layout, and so do in the scratch buffer.

    Attributes:
        slots: all banked, or none.
        at: where the first lies in the scratch buffer, in weights.
    """

    slots: tuple[Slot, ...]
    at: int

    @property
    def first(self) -> int:
        return self.slots[0].start

    @property
    def last(self) -> int:
        """Behind the last weight."""
        return self.slots[-1].start + self.slots[-1].weight.count

    @property
    def end(self) -> int:
        """Behind it in the scratch buffer."""
        return self.at + self.last - self.first

    @property
    def banked(self) -> bool:
        return self.slots[0].weight.banked


Group = tuple[Run, ...]
Kinds = npt.NDArray[np.int64]


def kinds_of(bank: EngineBank) -> dict[str, Kinds]:
    """What tells whether a weight differs between two tasks, by name.

    Of a banked weight, for each task how many of it are the task's own; of another, for each task a number that tasks
    with the same tensor have in common.
    """
    tasks = range(len(bank.tasks))
    kinds = {name: np.array([np.count_nonzero(ranks == task) for task in tasks]) for name, ranks in bank.ranks.items()}
    for name in bank.tasks[0].tensors:
        seen: dict[bytes, int] = {}
        kinds[name] = np.array([seen.setdefault(task.tensors[name].tobytes(), len(seen)) for task in bank.tasks])
    return kinds


def differs(kinds: Kinds, banked: bool, source: int, target: int) -> bool:
    """Whether a weight of these kinds is another for task ``target`` than for task ``source``."""
    if banked:
        return bool(kinds[min(source, target) : max(source, target)].any())
    return bool(kinds[source - 1] != kinds[target - 1])


def clusters_of(names: Sequence[str], companions: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """The smallest sets of weights that can be refitted by themselves, each in the order of ``names``.

    Args:
        companions: by weight, those that TensorRT misses when it is given that weight alone.
    """
    home = {name: {name} for name in names}
    for name, others in companions.items():
        for other in others:
            if home[other] is not home[name]:
                home[name] |= home[other]
                for moved in home[other]:
                    home[moved] = home[name]
    place = {name: index for index, name in enumerate(names)}
    distinct = {id(cluster): cluster for cluster in home.values()}.values()
    return sorted((tuple(sorted(cluster, key=place.__getitem__)) for cluster in distinct), key=lambda c: place[c[0]])


def groups_of(layout: Layout, clusters: Iterable[Sequence[str]], capacity: int) -> list[Group]:
    """Fill clusters into a scratch buffer of ``capacity`` weights; one that is larger has a group of its own."""
    slots = {slot.weight.name: slot for slot in layout.slots}
    groups: list[list[Slot]] = []
    used = 0
    for cluster in clusters:
        size = sum(layout.room(slots[name]) for name in cluster)
        if not groups or used + size > capacity:
            groups.append([])
            used = 0
        groups[-1] += [slots[name] for name in cluster]
        used += size
    return [_runs(layout, group) for group in groups]


def largest_group(layout: Layout, clusters: Iterable[Sequence[str]]) -> int:
    """How many weights a buffer must hold that takes every group."""
    slots = {slot.weight.name: slot for slot in layout.slots}
    return max(sum(layout.room(slots[name]) for name in cluster) for cluster in clusters)


def _runs(layout: Layout, group: Iterable[Slot]) -> Group:
    runs: list[list[Slot]] = []
    for slot in sorted(group, key=lambda slot: slot.start):
        before = runs[-1][-1] if runs else None
        together = before is not None and before.start + layout.room(before) == slot.start
        if together and before is not None and before.weight.banked == slot.weight.banked:
            runs[-1].append(slot)
        else:
            runs.append([slot])
    placed, at = [], 0
    for run in runs:
        placed.append(Run(tuple(run), at))
        at += sum(layout.room(slot) for slot in run)
    return tuple(placed)
