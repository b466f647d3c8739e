"""Networks that train in milliseconds, and what the tests of the packing cycle ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from packnet_deploy.pack import InputSpec
from packnet_deploy.training.network import PackedNetwork

SPEC = InputSpec((3, 12, 12), (0.5,) * 3, (0.25,) * 3, resize=12)
Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def small_module(seed: int = 0) -> nn.Sequential:
    """Convolutions with and without bias, BatchNorm, dropout, a linear layer and the head ``10``."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 7),
        nn.ReLU(),
        nn.Linear(7, 2),
    )


def small_network(seed: int = 0) -> PackedNetwork:
    return PackedNetwork(small_module(seed), "10", SPEC)


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Everything on that moves weights whose gradient is zero."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)


def loss_of(module: nn.Module, images: Tensor | None = None) -> Tensor:
    """Cross-entropy of eight images of noise."""
    logits = module(torch.randn(8, *SPEC.shape) if images is None else images)
    return nn.functional.cross_entropy(logits.float(), torch.randint(0, logits.shape[1], (8,)))


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One step in training mode."""
    module.train()
    optimizer.zero_grad()
    loss_of(module).backward()
    optimizer.step()


def train(network: PackedNetwork, make: Make = sgd, steps: int = 3) -> None:
    optimizer = network.guarded(make(list(network.trainable_parameters())))
    for _ in range(steps):
        step(network.module, optimizer)


def add_task(network: PackedNetwork, name: str, rate: float = 0.5, classes: int = 2, **freeze: Any) -> None:
    """One task, the whole way."""
    network.begin(name, [f"class {i}" for i in range(classes)])
    train(network)
    network.prune(rate)
    train(network)
    network.freeze(**freeze)


def packed(tasks: int) -> PackedNetwork:
    """A network with so many tasks frozen."""
    network = small_network()
    for index in range(1, tasks + 1):
        add_task(network, f"task{index}")
    return network


def bits(tensor: Tensor) -> npt.NDArray[np.int32]:
    """A tensor's float32 values as integers, in C order: -0.0 is not 0.0, and NaN equals itself."""
    return tensor.detach().cpu().contiguous().view(torch.int32).reshape(-1).numpy().copy()


def frozen_bits(network: PackedNetwork, through: int, module: nn.Module | None = None) -> dict[str, list[int]]:
    """Every bit that tasks 1..through rely on: owned weights, biases, normalisation; of ``module``'s where given."""
    module = network.module if module is None else module
    tensors = dict(module.named_parameters()) | {n: b for n, b in module.named_buffers() if b.is_floating_point()}
    found = {}
    for name in network.shared():
        found[name] = bits(tensors[name]).tolist()
    for name, owner in network.state.owners.items():
        flat = owner.contiguous().reshape(-1).numpy()
        found[name] = bits(tensors[name])[(flat > 0) & (flat <= through)].tolist()
    return found


class ThroughData(torch.optim.Optimizer):
    """Writes noise through ``.data`` to every weight: no version counter moves."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(torch.randn_like(parameter))


class Poison(ThroughData):
    """Leaves NaN, infinities and negative zeros everywhere."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                with torch.no_grad():
                    values = torch.tensor([float("nan"), float("-inf"), -0.0]).repeat(parameter.numel() // 3 + 1)
                    parameter.copy_(values[: parameter.numel()].reshape(parameter.shape))
