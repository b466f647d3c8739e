"""The training loop of one phase: epochs over a loader, the best one kept, stopped and continued at any step.

Who trains is a ``Trainee`` (a PackedNetwork, or a baseline's network), what is minimised an ``Objective``. Where the
state of an interrupted phase is kept is the ``Supervisor``'s business.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from packnet_deploy.errors import CheckFailed
from packnet_deploy.training.distributed import parallel, share_buffers, summed, world
from packnet_deploy.training.inference import Errors, errors
from packnet_deploy.training.stages import Fit, Schedule

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
State = dict[str, Any]  # tensors and plain values only


class Trainee(Protocol):
    """What can be trained."""

    @property
    def module(self) -> nn.Module: ...
    def trainable_parameters(self) -> Iterable[nn.Parameter]: ...
    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the task's head, which may have a learning rate of their own."""

    def guarded(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser, made to leave alone what must not change."""


class Batches(Protocol):
    """Training batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the training device."""

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """The next iteration gives this epoch, its first ``skip`` batches left out."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class Watcher(Protocol):
    """Is told how training goes; draws bars, prints lines, or nothing."""

    def note(self, text: str) -> None:
        """Something the user should know before it goes on."""

    def phase(self, name: str, begin: int, end: int, batches: int) -> None:
        """Epochs from ``begin`` (from 0) are next, each of so many batches. Their schedule goes to ``end``
        (exclusive), though another phase may take it over before."""

    def batch(self, images: int, loss: float) -> None:
        """One optimiser step is done."""

    def epoch(self, epoch: int, loss: float, val: Errors) -> None:
        """An epoch (from 1) ended with this mean training loss and these validation errors."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to: a row of log.csv."""

    phase: str
    epoch: int  # from 1
    lr: float
    loss: float
    val: Errors
    seconds: float  # validation included
    images_per_second: float  # training alone


class Supervisor:
    """Lets a phase be stopped and continued. This one never stops anything, and keeps nothing."""

    def continued(self) -> State | None:
        """The state to continue this phase from, if it was begun before; asked for once."""
        return None

    def stop_wanted(self) -> bool:
        """Whether to stop after this step."""
        return False

    def stop(self, where: str, state: State) -> None:
        """Keep the state of a phase that stops ``where`` it says, and raise."""

    def epoch(self, record: EpochRecord, state: State) -> None:
        """An epoch is over; ``state`` continues with the next one."""


def classification(label_smoothing: float = 0.0) -> Objective:
    """The objective of plain classification: cross-entropy with the labels, mean over the batch."""

    def cross_entropy(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(images), labels, label_smoothing=label_smoothing)

    return cross_entropy


def fit(
    network: Trainee,
    stage: Fit,
    train: Batches,
    val: Iterable[tuple[Tensor, Tensor]],
    watcher: Watcher,
    *,
    name: str,
    objective: Objective | None = None,
    supervisor: Supervisor | None = None,
) -> None:
    """Train what the network lets change; ends with the weights of the last epoch, or where the stage ``keeps_best``
    of the best one on ``val``, the later among equals.

    Raises:
        CheckFailed: the loss is NaN or infinite; names step and learning rate.
    """
    training = _Training(network, stage, objective or classification(stage.schedule.label_smoothing), len(train))
    supervisor = supervisor or Supervisor()
    if (state := supervisor.continued()) is not None:
        training.load(state)
    watcher.phase(name, training.at.epoch, stage.schedule.epochs, len(train))
    while (at := training.at).epoch < stage.end:
        begun, seen_before = time.perf_counter(), at.seen
        lr = training.begin_epoch()  # half-way through it
        train.set_epoch(stage.shown_before + at.epoch, skip=at.step)
        for images, labels in train:
            loss, count, stop = training.step(images, labels, supervisor.stop_wanted())
            if not math.isfinite(loss):
                raise CheckFailed(
                    f"{name}: the loss is {loss} at step {at.step} of epoch {at.epoch + 1}, learning rate {lr:g}; "
                    "try a lower --lr"
                )
            watcher.batch(count, loss)
            if stop:
                supervisor.stop(f"{name}: step {at.step} of epoch {at.epoch + 1}", training.state())
        trained_for = time.perf_counter() - begun
        share_buffers(network.module)
        scores = errors(network.module, val)
        training.end_epoch(scores)
        seconds, speed = time.perf_counter() - begun, (at.seen - seen_before) / trained_for
        record = EpochRecord(stage.phase, at.epoch + 1, lr, at.loss_sum / at.seen, scores, seconds, speed)
        supervisor.epoch(record, training.state())
        watcher.epoch(record.epoch, record.loss, scores)
    if training.at.kept:  # not without an epoch
        network.module.load_state_dict(training.at.kept)


@dataclass
class _Progress:
    """How far a phase has come: ``step`` steps into ``epoch``."""

    epoch: int
    step: int = 0
    loss_sum: float = 0.0  # over the images of this epoch
    seen: int = 0  # images of this epoch
    best: float = math.inf  # validation error
    kept: dict[str, Tensor] = field(default_factory=dict)  # the weights it belongs to


class _Training:
    """Optimiser, mixed precision and progress of one phase: all that has to be kept to continue it."""

    def __init__(self, network: Trainee, stage: Fit, objective: Objective, steps: int) -> None:
        self.at = _Progress(stage.begin)
        self._module, self._schedule, self._objective, self._steps = network.module, stage.schedule, objective, steps
        self._keeps_best = stage.keeps_best
        self._trained = parallel(network.module)
        self._optimizer = network.guarded(make_optimizer(network, stage.schedule))
        self._changing = list(network.trainable_parameters())
        self._device = next(network.module.parameters()).device.type
        self._amp = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[stage.schedule.amp]
        self._scaler = torch.amp.GradScaler(self._device, enabled=self._amp is torch.float16)

    def state(self) -> State:
        optimizer, scaler = self._optimizer.state_dict(), self._scaler.state_dict()
        return {"progress": vars(self.at).copy(), "optimizer": optimizer, "scaler": scaler}

    def load(self, state: State) -> None:
        self.at = _Progress(**state["progress"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def begin_epoch(self) -> float:
        """Returns the learning rate half-way through the epoch."""
        self._module.train()
        return self._schedule.lr_at(self.at.epoch + 0.5)

    def step(self, images: Tensor, labels: Tensor, stop_wanted: bool) -> tuple[float, int, bool]:
        """One optimiser step; the mean loss, the images and whether to stop, of all processes together."""
        rate = self._schedule.lr_at(self.at.epoch + (self.at.step + 0.5) / self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device, self._amp, enabled=self._amp is not None):
            loss = self._objective(self._trained, images, labels)
        own = len(labels)
        loss_sum, count, stop = summed([loss.item() * own, own, stop_wanted])
        # Gradients are averaged over the processes, whose shares of a batch may differ by an image.
        share = own * world().size / count
        self._scaler.scale(loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        if self._schedule.clip_grad:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._changing, self._schedule.clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        at = self.at
        at.step, at.loss_sum, at.seen = at.step + 1, at.loss_sum + loss_sum, at.seen + int(count)
        return loss_sum / count, int(count), bool(stop)

    def end_epoch(self, scores: Errors) -> None:
        """Keep the weights if no epoch before was better; without validation images, or choice, always."""
        at = self.at
        if not (self._keeps_best and scores.top1 > at.best):  # NaN is greater than nothing
            # Copied whole: some modules' load_state_dict (MNASNet's) asks for the metadata beside the tensors.
            at.best, at.kept = scores.top1, copy.deepcopy(self._module.state_dict())
        self.at = _Progress(at.epoch + 1, best=at.best, kept=at.kept)


def make_optimizer(network: Trainee, schedule: Schedule) -> torch.optim.Optimizer:
    """The schedule's optimiser over what the network lets change; a group's ``share`` is of the schedule's rate."""
    body, head = list(network.trainable_parameters()), list[nn.Parameter]()
    if schedule.lr_head is not None:
        heads = {id(parameter) for parameter in network.head_parameters()}
        body, head = ([p for p in body if (id(p) in heads) is inside] for inside in (False, True))
    share = (schedule.lr_head or schedule.lr) / schedule.lr
    groups = [{"params": p, "share": s} for p, s in ((body, 1.0), (head, share)) if p]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr, weight_decay=schedule.weight_decay)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay)
