"""A live module taken through algorithm.py's cycle: what the optimiser may change in each phase, and what it may not.

Which tensor of the module is which is parts.py and module.py; how frozen weights are kept still, guard.py. The training
loop is fit.py, what goes into packs and comes out of them network.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import InputSpec
from packnet_deploy.pack.owners import FREE, LayerCapacity, OwnerMap, capacity
from packnet_deploy.training.algorithm import PackingState, Phase, begin, freeze, prune, release, start
from packnet_deploy.training.guard import FrozenGuard
from packnet_deploy.training.module import PackableModule, like, rounded
from packnet_deploy.training.parts import find_head, linear_names, renew_head, separable, statistical_layers

LAYERS = ("all", "fc", "classifier")


class PackingCycle(PackableModule):
    """The steps of the cycle on a module, and between them the guard over what must not change.

    Attributes:
        state: who owns what, and what the present task is doing.
    """

    def __init__(
        self, module: nn.Module, head: str, spec: InputSpec, pattern: str = "", *, depthwise: bool = True
    ) -> None:
        super().__init__(module, head, spec, pattern, depthwise=depthwise)
        if FrozenGuard.release(module):  # it was packed before, or is a copy of a module that was
            module.requires_grad_(True)
        self.state = start(self._weights, [param.name for param in self.packable if param.pattern])
        self._guard = FrozenGuard([])
        self._task, self._classes, self._value_dtype = "", tuple[str, ...](), "float32"

    def owner_maps(self) -> dict[str, OwnerMap]:
        """The owner maps as a pack has them: copies off the module."""
        return {name: owner.cpu().contiguous().numpy().copy() for name, owner in self.state.owners.items()}

    @property
    def capacity(self) -> tuple[LayerCapacity, ...]:
        """Who owns how much of every packable parameter, the task in training included."""
        return capacity(self.owner_maps(), self.state.task, self.state.patterned)

    def begin(
        self,
        task: str,
        classes: Sequence[str],
        *,
        keep_head: bool = False,
        layers: str = "all",
        claim: Mapping[str, Tensor] | None = None,
        separate: Collection[str] = (),
        init: Mapping[str, Tensor] | None = None,
    ) -> None:
        """The next task claims free weights and gets a head of its own.

        Task 1 makes the network that the others build on: it takes every layer and its biases and normalisation are
        the shared ones, whatever ``layers`` and ``separate`` say.

        Args:
            keep_head: train the module's present head on, which must be as wide as ``classes`` (task 1 of a network
                that is trained already).
            layers: where the task may claim weights: "all", "fc" (linear layers), "classifier" (its head only).
            claim: bool by packable parameter: which of the free weights there it may claim, possibly none.
            separate: some of "biases", "norm" and "depthwise": what the task trains copies of for itself.
            init: by name, what the weights that an added task claims and what it has of its own start from: those of
                the pretrained network, say. Without it the former start from 0, the latter from task 1's.

        Raises:
            StepOrderError: another task is in training.
            UsageError: nothing is free in these layers, the kept head has another width, or an unknown option.
        """
        first = self.state.task == 0
        own = set() if first else separable(self.module, self.shared(), separate)
        state = begin(self._at_home(), self._claim(layers, claim))
        if not keep_head:
            renew_head(self.module, self.head, len(classes))
        elif self.head_width != len(classes):
            raise UsageError(
                f"task {task!r}: the network's own head has {self.head_width} classes, the data {len(classes)}"
            )
        self.state, self._task, self._classes = state, task, tuple(classes)
        self._separate(own)
        with torch.no_grad():
            if first and claim is not None:  # what stays free is 0, whatever the given network had there
                for name, weight in self._weights.items():
                    weight.masked_fill_(state.owners[name] == FREE, 0)
            elif not first and init is not None:
                self._start_from(init)
        self._protect()

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """What an optimiser should get: parameters that the task may change at least in part, the head among them."""
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """The present head's."""
        return find_head(self.module, self.head).parameters()

    @contextlib.contextmanager
    def head_alone(self) -> Iterator[None]:
        """Within, nothing but the present head may change, statistics of normalisation included."""
        self._guard.remove()
        head = {id(parameter) for parameter in self.head_parameters()}
        for parameter in self.module.parameters():
            parameter.requires_grad_(id(parameter) in head)
        self._guard = FrozenGuard([], statistical_layers(self.module))
        self._guard.watch(self.module)
        try:
            yield
        finally:
            self.module.requires_grad_(True)
            self._protect()

    def guarded(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The same optimiser, with frozen weights put back after each of its steps."""
        self._guard.attach(optimizer)
        return optimizer

    def prune(self, rate: float | Mapping[str, float], score: Mapping[str, Tensor] | None = None) -> None:
        """Free the least of each layer's weights, ``rate`` of what the task claimed there; they are 0 from now on.

        Args:
            rate: 0..1, or one for each packable parameter. Pruning again needs a higher one: it counts in all.
            score: what each weight is worth, 0 or more, for each packable parameter; by default its magnitude.

        Raises:
            StepOrderError: no task is in training.
            UsageError: a rate outside 0..1 or below an earlier one, or rates or scores that are not one for each
                parameter.
            CheckFailed: a weight or a score is NaN.
        """
        self._guard.restore()
        self._shrink(*prune(self._at_home(), self._weights, rate, score))

    def release(self, drop: Mapping[str, Tensor]) -> None:
        """Free the weights that ``drop`` marks (bool, for each packable parameter); they are 0 from now on.

        Raises:
            StepOrderError: no task is in training.
            UsageError: it marks a weight that is not the task's, or not every parameter has a mask.
        """
        self._guard.restore()
        self._shrink(*release(self._at_home(), self._weights, drop))

    def freeze(self, value_dtype: str = "float32") -> None:
        """Finish the task: its weights never change again.

        Args:
            value_dtype: float32, float16 or bfloat16; how the pack will store the task's weights, which are rounded
                to it here, so that what is measured from now on is what will be shipped.

        Raises:
            StepOrderError: the task has not been pruned.
            UsageError: an unknown dtype, or weights released against the pattern.
            CheckFailed: a weight is NaN or infinite, or does not fit the dtype. Nothing has been rounded then.
        """
        state = freeze(self._at_home())
        self._guard.restore()
        stored = {
            name: rounded(name, weight.detach(), state.owners[name] == state.task, value_dtype)
            for name, weight in self._weights.items()
        }
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(stored[name])
        self.state, self._value_dtype = state, value_dtype
        self._protect()

    def _start_from(self, init: Mapping[str, Tensor]) -> None:
        """Give the weights just claimed, and what the task has of its own, the values of ``init``."""
        self._guard.remove()  # it holds what was free at 0
        for name, weight in self._weights.items():
            claimed = self.state.owners[name] == self.state.task
            weight.copy_(torch.where(claimed, like(init[name], weight), weight))
        for name, tensor in self.own().items():
            tensor.copy_(init[name])

    def _claim(self, layers: str, claim: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
        """``claim`` confined to ``layers``.

        Raises:
            UsageError: no such layers, or nothing is free in them.
        """
        if layers not in LAYERS:
            raise UsageError(f"layers: expected one of {', '.join(LAYERS)}, got {layers!r}")
        if layers == "all" or self.state.task == 0:
            return claim
        names = linear_names(self.module, self._weights) if layers == "fc" else set()
        if layers == "fc" and not any(layer.free for layer in self.capacity if layer.name in names):
            table = ", ".join(f"{la.name} {la.free:,} of {la.room:,}" for la in self.capacity if la.name in names)
            raise UsageError(
                f"task {self.state.task + 1}: no weights are free in linear layers ({table or 'there are none'}); "
                "prune earlier tasks harder, or let it change all layers or the classifier alone"
            )
        if claim is None:
            claim = {name: torch.ones_like(owner, dtype=torch.bool) for name, owner in self.state.owners.items()}
        return {name: mask if name in names else torch.zeros_like(mask) for name, mask in claim.items()}

    def _shrink(self, state: PackingState, weights: Mapping[str, Tensor]) -> None:
        """Take on a state in which fewer weights are the task's."""
        self.state = state
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(weights[name])
        self._protect()

    def _at_home(self) -> PackingState:
        """The state with each owner map where its weight now is; the module may have been moved since."""
        owners = self.state.owners
        return replace(self.state, owners={name: like(owners[name], weight) for name, weight in self._weights.items()})

    def _protect(self) -> None:
        """Guard what the current phase must not change, and nothing else; the rest is for the optimiser."""
        self._guard.remove()  # lets go of its tensors, as large as the network, before there are new ones
        layers = (
            (weight, trainable := self.state.trainable(name), weight.detach().masked_fill(trainable, 0))
            for name, weight in self._weights.items()
        )
        own = () if self.state.phase is Phase.FROZEN else self._aside.keys()
        shared_frozen = self.state.task > 1 or (self.state.task == 1 and self.state.phase is Phase.FROZEN)
        self._guard = FrozenGuard(layers, statistical_layers(self.module, own) if shared_frozen else [])
        self._guard.watch(self.module)
        changing = {name for name in self._weights if bool(self.state.trainable(name).any())} | set(own)
        frozen = self._weights.keys() | (self.shared().keys() if shared_frozen else set())
        for name, parameter in self.module.named_parameters():
            if name in changing:
                parameter.requires_grad_(True)
            elif name in frozen:
                parameter.requires_grad_(False)
                parameter.grad = None  # an optimiser steps, and decays, whatever still has one
