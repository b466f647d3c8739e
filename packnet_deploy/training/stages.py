"""The stages of one task's training as plain data: what follows what, at which rates, for how many epochs.

Pure functions of the options; running the stages is task.py, one ``Fit`` of them fit.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import ParamSpec
from packnet_deploy.training.options import DEPTHWISE, TrainOptions, layer_rate


@dataclass(frozen=True)
class Schedule:
    """An optimiser and its learning rate over the epochs of a phase: a tenth of before from each milestone on."""

    epochs: int
    lr: float
    milestones: tuple[int, ...] = ()
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    amp: str = "none"

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.lr * 0.1 ** sum(milestone <= epoch for milestone in self.milestones)


@dataclass(frozen=True)
class Fit:
    """Train epochs ``begin`` to ``end`` (exclusive) of a phase, with a new optimiser.

    Attributes:
        shown_before: epochs in which this task's images were shown before the phase, so that no two look alike.
    """

    phase: str  # "train" or "retrain"
    schedule: Schedule
    begin: int
    end: int
    shown_before: int = 0


@dataclass(frozen=True)
class Prune:
    """Give weights back until this fraction of what the task claimed is free: ``rate`` times each layer's own."""

    part: float  # 0..1 of the final rate; 1 in the last step


Stage = Fit | Prune


def stages(options: TrainOptions, task: int) -> tuple[Stage, ...]:
    """What happens to task number ``task`` (from 1).

    Source of the defaults: the paper, section 4: the learning rate falls to a tenth half-way. Retraining does the
    same for task 1, which loses most of what it is when it is pruned, and goes at a tenth throughout for an added
    task, which loses little.
    """
    added = task > 1
    train = _schedule(options, options.epochs, options.lr, options.milestones)
    retrain_lr = options.retrain_lr or (options.lr / 10 if added else options.lr)
    milestones = () if options.retrain_milestones is None and added else options.retrain_milestones
    retrain = _schedule(options, options.retrain_epochs, retrain_lr, milestones)
    plan: list[Stage] = [Fit("train", train, 0, train.epochs)]
    for step in range(1, options.prune_steps + 1):
        begin, end = ((step + i - 1) * retrain.epochs // options.prune_steps for i in (0, 1))
        plan += [Prune(step / options.prune_steps), Fit("retrain", retrain, begin, end, train.epochs)]
    return tuple(stage for stage in plan if isinstance(stage, Prune) or stage.begin < stage.end)


def _schedule(options: TrainOptions, epochs: int, lr: float, milestones: tuple[int, ...] | None) -> Schedule:
    if milestones is None:
        milestones = (epochs // 2,) if epochs > 1 else ()
    return Schedule(epochs, lr, milestones, options.optimizer, options.momentum, options.weight_decay, options.amp)


def rates(options: TrainOptions, part: float, packable: Sequence[ParamSpec]) -> dict[str, float]:
    """The prune rate of every packable parameter; among rules that match, the last one counts.

    The rule ``depthwise`` matches convolutions of one input channel a filter, which a network need not have.

    Raises:
        UsageError: another rule matches none of them.
    """
    names = [param.name for param in packable]
    depthwise = [param.name for param in packable if len(param.shape) > 2 and param.shape[1] == 1]
    chosen = dict.fromkeys(names, options.prune_rate)
    for rule in options.layer_rates:
        pattern, rate = layer_rate(rule)
        matching = depthwise if pattern == DEPTHWISE else [name for name in names if fnmatchcase(name, pattern)]
        if not matching and pattern != DEPTHWISE:
            raise UsageError(
                f"--layer-rate {rule}: matches no packable parameter; they are named like {', '.join(names[:3])}"
            )
        chosen |= dict.fromkeys(matching, rate)
    return {name: part * rate for name, rate in chosen.items()}
