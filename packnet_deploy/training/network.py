"""A network under packing: the nn.Module around algorithm.py.

Covers which parameters are packable, the head of the task in training, what freezes after task 1, and the values
that go into a pack. The training loop is fit.py; what a whole ``packnet train`` does is run.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from packnet_deploy.errors import ArtefactError, CheckFailed, StepOrderError, UsageError
from packnet_deploy.pack import InputSpec, NewTask, Pack, ParamSpec, bank_sha256, probe_batch
from packnet_deploy.pack.delta import VALUE_DTYPES
from packnet_deploy.pack.owners import FREE, LayerCapacity, capacity
from packnet_deploy.training.algorithm import Packing, Phase, begin, freeze, prune, start
from packnet_deploy.training.guard import FrozenGuard

PACKABLE_LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
HEAD_STD = 0.01
_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Arrays = dict[str, npt.NDArray[np.float32]]


class PackedNetwork:
    """Takes a module through train → prune → retrain → freeze, task after task.

    >>> network = PackedNetwork(module, head="fc", spec=InputSpec(...))     # or PackedNetwork.resume(pack, module)
    >>> network.begin("birds", classes)
    >>> optimizer = network.guarded(torch.optim.SGD(network.trainable_parameters(), lr=0.01))
    ... # train
    >>> network.prune(0.75)
    ... # retrain, with a new optimiser
    >>> network.freeze()
    >>> pack = append_task(pack, network.new_task())                        # or create_pack(..., first=...)

    The module stays an ordinary module: train it, move it, copy it as usual. Weights that must not change are put
    back after every optimiser step and before every forward, bit for bit (guard.py).

    Args:
        module: convolutions and linear layers with a final head; changed in place.
        head: the head module's name, e.g. ``fc`` or ``classifier.1``.
        spec: the input that tasks are trained on.

    Raises:
        UsageError: no such head, or the module has weights that packing would silently leave out.
    """

    def __init__(self, module: nn.Module, head: str, spec: InputSpec) -> None:
        self.module, self.head, self.spec = module, head, spec
        self._head()
        if FrozenGuard.release(module):  # it was packed before, or is a copy of a module that was
            module.requires_grad_(True)
        self._weights = _packable_weights(module, head)
        self.packable = tuple(ParamSpec(name, tuple(weight.shape)) for name, weight in self._weights.items())
        self.state = start(self._weights)
        self._guard = FrozenGuard([])
        self._task, self._classes, self._value_dtype = "", tuple[str, ...](), "float32"

    @classmethod
    def resume(cls, pack: Pack, module: nn.Module) -> PackedNetwork:
        """The network of an existing pack, ready for ``begin`` of its next task.

        Args:
            module: the pack's network, any weights; its own are overwritten.

        Raises:
            ArtefactError: the module is not the network that the pack was made from; names what differs.
        """
        try:
            network = cls(module, pack.backbone.head, pack.input)
        except UsageError as error:
            raise ArtefactError(f"{pack.path}: made for another network than {pack.backbone.arch}: {error}") from error
        if network.packable != pack.packable:
            theirs = {(p.name, p.shape) for p in pack.packable} ^ {(p.name, p.shape) for p in network.packable}
            names = ", ".join(sorted({name for name, _ in theirs})[:3]) or "the parameters' order"
            raise ArtefactError(f"{pack.path}: made for another network than {pack.backbone.arch}: {names} differ")
        if not pack.tasks:
            return network
        bank = pack.bank()
        shared = network.shared()
        if {n: t.shape for n, t in shared.items()} != {n: a.shape for n, a in bank.shared.items()}:
            theirs = {(n, a.shape) for n, a in bank.shared.items()} ^ {(n, t.shape) for n, t in shared.items()}
            names = ", ".join(sorted({name for name, _ in theirs})[:3])
            raise ArtefactError(f"{pack.path}: made for another network than {pack.backbone.arch}: {names} differ")
        with torch.no_grad():
            for name, values in bank.values.items():
                network._weights[name].copy_(torch.from_numpy(values))
            for name, values in bank.shared.items():
                shared[name].copy_(torch.from_numpy(values))
        owners = {name: like(torch.from_numpy(bank.owners[name]), w) for name, w in network._weights.items()}
        network.state = Packing(owners, bank.tasks)
        network._freeze_shared()
        network._protect()
        return network

    @property
    def capacity(self) -> tuple[LayerCapacity, ...]:
        """Who owns how much of every packable parameter, the task in training included."""
        return capacity(self._owners(), self.state.task)

    @property
    def head_width(self) -> int:
        """How many classes the module's present head tells apart."""
        return self._head().weight.shape[0]

    def shared(self) -> dict[str, Tensor]:
        """Every parameter and floating buffer that is neither packable nor the head's: frozen after task 1."""
        tensors: dict[str, Tensor] = {name: p.detach() for name, p in self.module.named_parameters()}
        tensors |= {name: b for name, b in self.module.named_buffers() if b.is_floating_point()}
        head = f"{self.head}."
        return {name: t for name, t in tensors.items() if name not in self._weights and not name.startswith(head)}

    def begin(self, task: str, classes: Sequence[str], *, keep_head: bool = False) -> None:
        """The next task claims every free weight and gets a head of its own.

        Args:
            keep_head: train the module's present head on, which must be as wide as ``classes`` (task 1 of a network
                that is trained already).

        Raises:
            StepOrderError: another task is in training.
            UsageError: nothing is free, or the kept head has another width.
        """
        state = begin(self._at_home())
        if not keep_head:
            _replace(self.module, self.head, _new_head(self._head(), len(classes)))
        elif self.head_width != len(classes):
            raise UsageError(
                f"task {task!r}: the network's own head has {self.head_width} classes, the data {len(classes)}"
            )
        self.state, self._task, self._classes = state, task, tuple(classes)
        self._protect()

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """What an optimiser should get: the packable weights, the head, and in task 1 everything else."""
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def guarded(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The same optimiser, with frozen weights put back after each of its steps."""
        self._guard.attach(optimizer)
        return optimizer

    def prune(self, rate: float | Mapping[str, float]) -> None:
        """Free the smallest ``rate`` of each layer's current weights; they are 0 from now on.

        Raises:
            StepOrderError: not right after the first training of a task.
        """
        self._guard.restore()
        self.state, pruned = prune(self._at_home(), self._weights, rate)
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(pruned[name])
        self._protect()

    def freeze(self, value_dtype: str = "float32") -> None:
        """Finish the task: its weights never change again.

        Args:
            value_dtype: float32, float16 or bfloat16; how the pack will store the task's weights, which are rounded
                to it here, so that what is measured from now on is what will be shipped.

        Raises:
            StepOrderError: the task has not been pruned.
            UsageError: an unknown dtype.
            CheckFailed: a weight is NaN or infinite, or does not fit the dtype. Nothing has been rounded then.
        """
        state = freeze(self._at_home())
        self._guard.restore()
        self._round(value_dtype, state)
        self.state, self._value_dtype = state, value_dtype
        self._freeze_shared()
        self._protect()

    def new_task(self, report: Mapping[str, Any] | None = None) -> NewTask:
        """The task just frozen, for ``create_pack`` or ``append_task``; its arrays are copies off the module.

        Args:
            report: figures to keep with the task; JSON.

        Raises:
            StepOrderError: no task has been frozen here.
        """
        if self.state.phase is not Phase.FROZEN or not self._classes:
            raise StepOrderError(
                f"new_task() is out of order: task {self.state.task} is in phase {self.state.phase.name}; "
                "it needs a task trained here and frozen: begin(), prune(), freeze()"
            )
        self._guard.restore()
        shared, weights, owners = self._arrays(self.shared()), self._arrays(self._weights), self._owners()
        return NewTask(
            name=self._task,
            classes=self._classes,
            owners=owners,
            weights=weights,
            head=self._arrays(dict(self._head().named_parameters())),
            probe_logits=self.logits(probe_batch(self.spec)),
            frozen_sha256=bank_sha256(self.packable, weights, owners, shared, self.state.task - 1),
            shared=shared if self.state.task == 1 else {},
            value_dtype=self._value_dtype,
            report=report or {},
        )

    def logits(
        self, images: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[np.float32]] | None = None
    ) -> npt.NDArray[np.float32]:
        """Logits in eval mode on the CPU in float32, of the module as it is or with ``tensors`` in place of its own.

        Args:
            images: float32 ``[n, c, h, w]``, normalised.
            tensors: by the graph's input names, the head as ``head.weight`` and ``head.bias``.
        """
        if tensors is None:
            own = (*self.module.named_parameters(), *self.module.named_buffers())
            substitutes = {name: tensor.detach().cpu() for name, tensor in own}
        else:
            substitutes = {self._torch_name(name): torch.from_numpy(values) for name, values in tensors.items()}
        modes = {part: part.training for part in self.module.modules()}
        self.module.eval()
        try:
            with torch.inference_mode():
                answer = torch.func.functional_call(self.module, substitutes, (torch.from_numpy(images),))
        finally:
            for part, training in modes.items():
                part.training = training
        return np.asarray(answer.numpy())

    def as_task(self, index: int) -> Arrays:
        """The live packable weights and shared tensors as task ``index`` sees them, fresh on the CPU."""
        owners, arrays = self._owners(), self._arrays(self._weights)
        for name, values in arrays.items():
            values[(owners[name] == FREE) | (owners[name] > index)] = 0
        return arrays | self._arrays(self.shared())

    def _torch_name(self, name: str) -> str:
        return f"{self.head}.{name[5:]}" if name in ("head.weight", "head.bias") else name

    def _head(self) -> nn.Linear | nn.Conv2d:
        try:
            layer = self.module.get_submodule(self.head)
        except AttributeError:
            layer = self.module
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise UsageError(f"head '{self.head}': expected a Linear or Conv2d of the network; give its module name")
        return layer

    def _at_home(self) -> Packing:
        """The state with each owner map where its weight now is; the module may have been moved since."""
        owners = self.state.owners
        return replace(self.state, owners={name: like(owners[name], weight) for name, weight in self._weights.items()})

    def _protect(self) -> None:
        """Guard what the current phase must not change, and nothing else."""
        self._guard.remove()
        self._guard = FrozenGuard([])  # lets go of the old one's tensors, as large as the network, before new ones
        layers = (
            (weight, trainable := self.state.trainable(name), weight.detach().masked_fill(trainable, 0))
            for name, weight in self._weights.items()
        )
        norms = [m for m in self.module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self._guard = FrozenGuard(layers, inference_only=norms if self._shared_frozen else [])
        self._guard.watch(self.module)

    @property
    def _shared_frozen(self) -> bool:
        return self.state.task > 1 or (self.state.task == 1 and self.state.phase is Phase.FROZEN)

    def _freeze_shared(self) -> None:
        """Biases and normalisation stay as task 1 left them."""
        if self.state.task:
            frozen = self.shared()
            for name, parameter in self.module.named_parameters():
                if name in frozen:
                    parameter.requires_grad_(False)
                    parameter.grad = None  # an optimiser steps, and decays, whatever still has one

    @torch.no_grad()
    def _round(self, value_dtype: str, state: Packing) -> None:
        """Round the current task's weights to how they will be stored; all of them, or none."""
        if value_dtype not in VALUE_DTYPES:
            raise UsageError(f"value dtype: expected one of {', '.join(VALUE_DTYPES)}, got {value_dtype!r}")
        stored = _TORCH_DTYPES[value_dtype]
        for name, weight in self._weights.items():
            mine = state.owners[name] == state.task
            if not bool(torch.isfinite(weight).logical_or_(~mine).all()):
                raise CheckFailed(f"parameter {name!r}: a weight is NaN or infinite; train with a lower learning rate")
            if not bool(torch.isfinite(weight.to(stored)).logical_or_(~mine).all()):
                raise CheckFailed(f"parameter {name!r}: a weight does not fit {value_dtype}; store float32 or bfloat16")
        if stored == torch.float32:
            return
        for name, weight in self._weights.items():
            weight.copy_(torch.where(state.owners[name] == state.task, weight.to(stored).to(weight.dtype), weight))

    def _owners(self) -> dict[str, npt.NDArray[np.uint8]]:
        return {name: owner.cpu().contiguous().numpy().copy() for name, owner in self.state.owners.items()}

    def _arrays(self, tensors: Mapping[str, Tensor]) -> Arrays:
        return {name: t.detach().float().cpu().contiguous().numpy().copy() for name, t in tensors.items()}


def like(values: Tensor, weight: Tensor) -> Tensor:
    """``values`` on the weight's device and laid out in memory as it is."""
    return torch.empty_like(weight, dtype=values.dtype, requires_grad=False).copy_(values)


def _packable_weights(module: nn.Module, head: str) -> dict[str, nn.Parameter]:
    """The packable parameters in ``named_parameters()`` order, tied ones once."""
    layer_weights = {id(m.weight) for m in module.modules() if isinstance(m, PACKABLE_LAYERS)}
    weights = {}
    for name, parameter in module.named_parameters():
        if name.startswith(f"{head}."):
            continue
        if id(parameter) in layer_weights:
            weights[name] = parameter
        elif sum(side > 1 for side in parameter.shape) > 1:
            raise UsageError(
                f"parameter '{name}' {list(parameter.shape)} is a weight that belongs to no convolution or linear "
                "layer, so packing would silently share it between tasks; this network cannot be packed as it is"
            )
    if not weights:
        raise UsageError("the network has no convolution or linear layer beside its head; there is nothing to pack")
    return weights


def _new_head(old: nn.Linear | nn.Conv2d, classes: int) -> nn.Module:
    """A fresh head like ``old``, ``classes`` wide, on the same device.

    Weights N(0, 0.01), bias 0, as torchvision begins the heads of VGG, SqueezeNet and MobileNet: PyTorch's wider
    default can leave a head that is followed by ReLU (SqueezeNet's) without a single class alive.
    """
    new = copy.deepcopy(old)
    new.weight = nn.Parameter(old.weight.new_empty(classes, *old.weight.shape[1:]))
    if old.bias is not None:
        new.bias = nn.Parameter(old.bias.new_zeros(classes))
    setattr(new, "out_features" if isinstance(new, nn.Linear) else "out_channels", classes)
    nn.init.normal_(new.weight, std=HEAD_STD)
    return new


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)
