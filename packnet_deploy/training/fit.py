"""The training loop of one phase: epochs over a loader, the best epoch kept, judged on validation images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from packnet_deploy.errors import CheckFailed
from packnet_deploy.training.network import PackedNetwork


class Batches(Protocol):
    """Training batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the training device."""

    def set_epoch(self, epoch: int) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class Watcher(Protocol):
    """Is told how training goes; draws bars, prints lines, or nothing."""

    def phase(self, name: str, epochs: int, batches: int) -> None:
        """A phase of so many epochs begins, each of so many batches."""

    def batch(self, images: int, loss: float) -> None:
        """One optimiser step is done."""

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        """An epoch (from 1) ended with this mean training loss and validation accuracy (0..1)."""


@dataclass(frozen=True)
class Schedule:
    """SGD over some epochs; the learning rate is a tenth of ``lr`` from epoch ``drop_after`` on (paper, section 4)."""

    epochs: int
    lr: float
    drop_after: int | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.lr * (0.1 if self.drop_after is not None and epoch >= self.drop_after else 1.0)


def fit(
    network: PackedNetwork,
    schedule: Schedule,
    train: Batches,
    val: Iterable[tuple[Tensor, Tensor]],
    watcher: Watcher,
    *,
    phase: str,
    first_epoch: int = 0,
) -> None:
    """Train what the network's phase lets change; ends with the weights of the best epoch on ``val``, of the later one
    among equals, and of the last one without validation images.

    Args:
        first_epoch: number of epochs trained before in this task, so that no two show the images alike.

    Raises:
        CheckFailed: the loss is NaN or infinite; names step and learning rate.
    """
    if schedule.epochs == 0:
        return
    parameters = list(network.trainable_parameters())
    optimizer = torch.optim.SGD(
        parameters, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )
    network.guarded(optimizer)
    module = network.module
    watcher.phase(phase, schedule.epochs, len(train))
    best, kept = -1.0, {}
    for epoch in range(schedule.epochs):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr_at(epoch)
        module.train()
        train.set_epoch(first_epoch + epoch)
        total, seen = 0.0, 0
        for step, (images, labels) in enumerate(train):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(module(images), labels)
            value = loss.item()
            if not math.isfinite(value):
                raise CheckFailed(
                    f"{phase}: the loss is {value} at step {step + 1} of epoch {epoch + 1}, learning rate "
                    f"{schedule.lr_at(epoch):g}; try a lower --lr"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, seen = total + value * len(labels), seen + len(labels)
            watcher.batch(len(labels), value)
        score = accuracy(module, val)
        watcher.epoch(epoch + 1, total / seen, score)
        if not score < best:  # NaN, without validation images: the last epoch
            best = score
            kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(kept)


@torch.inference_mode()
def accuracy(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Top-1 accuracy, 0..1, in eval mode; NaN without images. The module's mode is put back."""
    training = module.training
    module.eval()
    right = seen = 0
    for images, labels in batches:
        right += int((module(images).argmax(1) == labels).sum())
        seen += len(labels)
    module.train(training)
    return right / seen if seen else math.nan
