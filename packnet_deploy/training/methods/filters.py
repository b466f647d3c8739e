"""``--method filter-pruning``: PackNet over whole filters, so that one forward answers all tasks (section 5.5).

A task owns channels (channels.py) rather than single weights. Task k's filters read the channels of tasks 1..k and no
others; the weights by which an older filter would read a newer channel stay free, and zero, for ever. So a channel
carries the same values whatever newer tasks have added, and the channels of all tasks can be computed together
(simultaneous.py). Everything is said in the same owner maps, so packs, exports and verify know nothing of it.

Two things differ from packing single weights. A head must not read channels that its task does not own, because a
newer task may fill them. And a filter cannot restart from zero: nothing would come out of it, nothing would read it,
and no gradient would ever reach it; so new filters start at random. The bias and the normalisation of a channel that
task 1 gave back are reset to do nothing: statistics of a silent filter would blow up whatever a later task sends
through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from packnet_deploy.errors import UsageError
from packnet_deploy.training.guard import FrozenGuard
from packnet_deploy.training.loader import TrainLoader
from packnet_deploy.training.methods.channels import Channels, over, with_images
from packnet_deploy.training.methods.following import follow_channels
from packnet_deploy.training.methods.packnet import into_one_pack
from packnet_deploy.training.methods.taylor import IMAGES, importance
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.parts import find_head
from packnet_deploy.training.session import Session, TaskResult
from packnet_deploy.training.task import TaskTraining

# New channels beside trained ones: as loud as those, they drown what the older tasks know, and the first steps of a
# head that ends in ReLU kill it for good (SqueezeNet on photographs: chance, for ever; a tenth or less learns).
QUIET = 0.1
NEUTRAL = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}  # a normalisation that does nothing


class FilterPacking:
    """The steps of a PackedNetwork's cycle, by whole filters.

    >>> filters = FilterPacking(network)
    >>> filters.begin("birds", classes)
    ... # train the network as usual
    >>> filters.prune(filters.importance(batches), 0.3)
    ... # retrain
    >>> filters.freeze()

    Raises:
        EnvironmentFault: torch-pruning is not installed.
        UsageError: the network's channels cannot be followed.
    """

    def __init__(self, network: PackedNetwork) -> None:
        self.network = network
        weights = {param.name: network.module.get_parameter(param.name) for param in network.packable}
        self.channels: Channels = follow_channels(network.module, network.head, weights, network.spec)
        self._weights = weights
        self._head_guard = FrozenGuard([])

    @property
    def owners(self) -> Tensor:
        """uint8 ``[channels]``: whose each channel is, 0 where nobody's."""
        return self.channels.owners(self.network.state.owners)

    def begin(self, task: str, classes: Sequence[str], *, keep_head: bool = False) -> None:
        """The next task claims every free channel.

        Raises:
            UsageError: no filter is free; and as ``PackedNetwork.begin``.
        """
        free = self.owners == 0
        if not free.any():
            raise UsageError(f"task {task!r}: no free filters are left in the network; prune earlier tasks harder")
        weights = self.channels.between(made=free, read=torch.ones_like(free))
        claim = {name: over(mask, self._weights[name]) for name, mask in weights.items()}
        self.network.begin(task, classes, keep_head=keep_head, claim=claim)
        if self.network.state.task > 1:
            self._start_at_random()
        self._protect()

    def importance(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """How much each channel matters to the task in training: see taylor.py."""
        return importance(self.network.module, self.network.head, self.channels, batches, IMAGES)

    def prune(self, scores: Tensor, rate: float) -> None:
        """Give back the least important channels until ``rate`` of those that the task claimed are free.

        They are ranked over all layers together, but no layer is left without a channel that the task can use; and a
        channel that nothing comes through any more goes as well.

        Args:
            scores: ``[channels]``, higher where more important.
        """
        task, owners = self.network.state.task, self.owners
        held, older = owners == task, (owners > 0) & (owners < task)
        count = round(rate * int((~older).sum())) - int((owners == 0).sum())
        kept = held & ~least(scores, held, older, self.channels.bundles, count)
        kept = self.channels.fed(kept | older) & held
        stays = self.channels.between(made=kept, read=kept | older)
        state = self.network.state
        self.network.release(
            {
                name: (state.owners[name] == task) & ~over(stays[name], weight).to(state.owners[name].device)
                for name, weight in self._weights.items()
            }
        )
        self._protect()

    def freeze(self, value_dtype: str = "float32") -> None:
        """Finish the task, as ``PackedNetwork.freeze`` does.

        What task 1 leaves of the channels it gave back is neutral, bias and normalisation.
        """
        self._head_guard.restore()
        if self.network.state.task == 1:
            self._neutralise(self.owners == 0)
        self.network.freeze(value_dtype)

    def snapshot(self) -> dict[str, Any]:
        """The network's; a keeper's."""
        return self.network.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """The network goes back to where ``snapshot`` was taken."""
        self.network.restore(snapshot)
        self._protect()

    def _protect(self) -> None:
        """Hold the head's weights on channels that the task does not own at zero."""
        self._head_guard.remove()
        weight = find_head(self.network.module, self.network.head).get_parameter("weight")
        reads = with_images(self.owners > 0)[self.channels.head]
        reads = over(reads.expand(len(weight), -1), weight)
        self._head_guard = FrozenGuard([(weight, reads, torch.zeros_like(weight))])
        self._head_guard.restore()
        self._head_guard.watch(self.network.module)

    @torch.no_grad()
    def _start_at_random(self) -> None:
        """New filters as He et al. start them, by the number of inputs that they read, but ``QUIET``."""
        for name, weight in self._weights.items():
            mine = (self.network.state.owners[name] == self.network.state.task).to(weight.device)
            inputs = mine.flatten(1).sum(1).clamp(min=1).reshape(-1, *[1] * (weight.ndim - 1))
            weight.copy_(torch.where(mine, torch.randn_like(weight) * QUIET * (2 / inputs) ** 0.5, weight))

    @torch.no_grad()
    def _neutralise(self, chosen: Tensor) -> None:
        acting = {name: (numbers, NEUTRAL) for name, numbers in self.channels.norms.items()}
        acting |= {
            name.removesuffix(".weight"): (layer.outputs, {"bias": 0.0}) for name, layer in self.channels.layers.items()
        }
        for name, (numbers, neutral) in acting.items():
            part = self.network.module.get_submodule(name)
            for attribute, value in neutral.items():
                vector = getattr(part, attribute, None)
                if vector is not None:
                    vector[chosen[numbers].to(vector.device)] = value


def least(scores: Tensor, held: Tensor, older: Tensor, bundles: Tensor, count: int) -> Tensor:
    """bool ``[channels]``: the ``count`` least important of the ``held`` channels, lower number first among equals.

    Never the last one of a bundle: where no ``older`` channel is to be had there, the best one stays.
    """
    candidates = held.clone()
    for bundle in range(int(bundles.max()) + 1):
        mine = bundles == bundle
        if not (mine & older).any() and (mine & held).any():
            best = torch.where(mine & held, scores, -1).argmax()
            candidates[best] = False
    chosen = torch.zeros_like(held)
    ranked = torch.where(candidates, scores, torch.inf).argsort(stable=True)
    chosen[ranked[: max(0, min(count, int(candidates.sum())))]] = True
    return chosen


def filter_pruning(tasks: Sequence[TrainOptions], pack_path: Path, session: Session) -> Iterator[TaskResult]:
    """Task after task into one pack, each by whole filters."""
    return into_one_pack(tasks, pack_path, session, WholeFilters)


class WholeFilters:
    """A task claims whole filters, and gives the least important ones back, judged by its images.

    ``--prune-steps`` removes them by and by, judged anew in each step. The paper's table 6 removes 400 of VGG-16's
    before each of ten epochs: as many steps as retraining epochs.

    Raises:
        UsageError: it has none.
    """

    def __init__(self, training: TaskTraining) -> None:
        self._options, self.identity = training.options, dict[str, Any]()
        if training.images.train is None:
            raise UsageError(f"task {self._options.task!r}: filter pruning judges filters by images; give their --data")
        self._filters = FilterPacking(training.network)

    def begin(self, classes: tuple[str, ...], keep_head: bool) -> None:
        self._filters.begin(self._options.task, classes, keep_head=keep_head)

    def prune(self, part: float, train: TrainLoader | None) -> None:
        assert train is not None  # __init__ saw to it
        train.set_epoch(0)
        self._filters.prune(self._filters.importance(train), part * self._options.prune_rate)

    def freeze(self) -> None:
        self._filters.freeze(self._options.value_dtype)

    def keep(self, pack_path: Path) -> dict[str, Any]:
        return {}  # new filters start at random

    def snapshot(self) -> dict[str, Any]:
        return self._filters.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._filters.restore(snapshot)
