"""The stages of one task's training as plain data: what follows what, at which rates, for how many epochs.

Pure functions of the options; running the stages is task.py, one ``Fit`` of them fit.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import ParamSpec
from packnet_deploy.training.options import DEPTHWISE, TrainOptions, layer_rate
from packnet_deploy.training.search import Search, Step, Tried


@dataclass(frozen=True)
class Schedule:
    """An optimiser, what it minimises, and its learning rate over the epochs of a phase.

    Attributes:
        kind: "step": a tenth of before from each milestone on; "cosine": from ``lr`` to 0 along half a wave.
        warmup: epochs in which the rate first rises from 0.
        lr_head: the head's rate, if it is another; it rises and falls as the other does.
        label_smoothing: how much of each label goes to all classes alike.
        clip_grad: the norm that a step's gradient is shortened to, 0 for none. A few hundred steps on small sets cannot
            make good what a single long one destroys of a pretrained network (docs/results.md).
    """

    epochs: int
    lr: float
    milestones: tuple[int, ...] = ()
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    amp: str = "none"
    kind: str = "step"
    warmup: float = 0.0
    lr_head: float | None = None
    label_smoothing: float = 0.0
    clip_grad: float = 0.0

    def lr_at(self, epoch: float) -> float:
        """The learning rate when so many epochs, counted from 0, and parts of one are over."""
        if self.kind == "cosine":
            rate = self.lr * (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2
        else:
            rate = self.lr * 0.1 ** sum(milestone <= epoch for milestone in self.milestones)
        return rate * min(1, epoch / self.warmup) if self.warmup else rate


@dataclass(frozen=True)
class Fit:
    """Train epochs ``begin`` to ``end`` (exclusive) of a schedule, with a new optimiser.

    Attributes:
        shown_before: epochs in which this task's images were shown before the schedule's first, so that no two look
            alike.
        head_alone: only the head changes.
    """

    phase: str  # "head", "train" or "retrain"
    schedule: Schedule
    begin: int
    end: int
    shown_before: int = 0
    head_alone: bool = False

    @property
    def keeps_best(self) -> bool:
        """Whether it ends with its best epoch's weights: where its schedule ends. Before that, at a high learning
        rate, the best of a few epochs says little, and what follows is tuned to the last."""
        return self.end == self.schedule.epochs


@dataclass(frozen=True)
class Prune:
    """Give weights back until this fraction of what the task claimed is free: ``rate`` times each layer's own."""

    part: float  # 0..1 of the final rate; 1 in the last step


@dataclass(frozen=True)
class Judge:
    """Go back to what was held unless the validation error is good enough at this rate.

    Attributes:
        whole: all retraining epochs came before, so what is not good enough now will not become so.
        final: the search is over; else this is one of its tries.
    """

    rate: float
    whole: bool = True
    final: bool = False


Stage = Fit | Prune | Judge
_SHARE = 4  # of the retraining epochs a quarter follows each rate that is tried


def stages(
    options: TrainOptions,
    task: int,
    *,
    patterned: bool = False,
    search: Search | None = None,
    tried: Sequence[Tried] = (),
) -> tuple[Stage, ...]:
    """What happens to task number ``task`` (from 1).

    Pruning takes ``prune_steps`` steps, an epoch apart; the last comes after ``epochs``, or later where there are
    fewer epochs than steps. A learning rate on a cosine schedule falls once, over all epochs before and after. One on
    a step schedule, or given for after pruning, begins anew there: where it began before for task 1, which loses most
    of what it is when it is pruned, and lower for an added task, which loses little, without falling half-way.

    With ``max_drop``, as far as it is known when these rates have been ``tried``: what was known before stays, more
    follows. Each try retrains for a quarter of the retraining epochs, with a learning rate that falls to its end, and
    goes on from the lower rate before it, whose epochs count; one that fails then gets all of them. The rate found gets
    what is left of twice the retraining epochs, one at least. A ``last`` task gets all its epochs before, unless it is
    ``patterned``: 2:4 takes weights at any rate.

    Source of the step schedule, its rates and its epochs: the paper, section 4; of pruning by and by: Zhu and Gupta,
    "To prune, or not to prune", 2017.
    """
    if options.last and not patterned:
        epochs = options.epochs + options.retrain_epochs
        options = replace(options, epochs=epochs, retrain_epochs=0, retrain_milestones=None)
    added = task > 1
    alone = _schedule(options, options.freeze_epochs, options.lr_head or options.lr, ())
    head = Fit("head", alone, 0, alone.epochs, head_alone=True)
    train = _schedule(options, options.epochs, options.lr, options.milestones, warmup=options.warmup)
    lr, anew = _after_pruning(options, added, searching=search is not None)
    milestones = () if options.retrain_milestones is None and added else options.retrain_milestones
    if search is not None:
        plan = [head, Fit("train", train, 0, train.epochs, alone.epochs)]
        return _whole(plan) + _searching(options, lr, milestones, search, tried, alone.epochs + train.epochs)
    retrain = _schedule(options, options.retrain_epochs, lr, milestones)
    if anew:
        before = Fit("train", train, 0, train.epochs, alone.epochs)
        after = Fit("retrain", retrain, 0, retrain.epochs, alone.epochs + train.epochs)
    else:
        both = _schedule(options, train.epochs + retrain.epochs, options.lr, (), warmup=options.warmup)
        before = Fit("train", both, 0, train.epochs, alone.epochs)
        after = Fit("retrain", both, train.epochs, both.epochs, alone.epochs)
    return _whole([head, *_pruned(before, after, options.prune_steps, even=options.method == "filter-pruning")])


def _pruned(before: Fit, after: Fit, steps: int, *, even: bool) -> list[Stage]:
    """Two fits, cut in pieces by so many prunings: each an epoch after the other, the last between the fits, or later
    if these are too few. ``even``: they take alike, else much at first, where much is spare."""
    epochs = before.end - before.begin
    last = max(epochs, steps - 1)
    cuts = {last - steps + 1 + i: (i + 1) / steps for i in range(steps)}  # by epochs that are over
    plan, begun = list[Stage](), 0
    for at, time in cuts.items():
        plan += [*_between(before, after, begun, at), Prune(time if even else 1 - (1 - time) ** 3)]
        begun = at
    return [*plan, *_between(before, after, begun, epochs + after.end - after.begin)]


def _between(before: Fit, after: Fit, begin: int, end: int) -> list[Stage]:
    """What of two fits lies between epochs counted over both; empty pieces too."""
    first, second = before.begin, after.begin - (before.end - before.begin)
    edge = min(max(before.end - before.begin, begin), end)
    return [
        replace(before, begin=first + begin, end=first + edge),
        replace(after, begin=second + edge, end=second + end),
    ]


def _after_pruning(options: TrainOptions, added: bool, *, searching: bool) -> tuple[float, bool]:
    """The learning rate that retraining begins with, and whether it begins anew instead of falling on."""
    cosine = options.schedule == "cosine"
    anew = searching or not cosine or options.retrain_lr is not None or options.retrain_lr_factor is not None
    factor = options.retrain_lr_factor or (0.5 if cosine else 0.1)
    return options.retrain_lr or (options.lr * factor if added else options.lr), anew


def _whole(plan: Sequence[Stage]) -> tuple[Stage, ...]:
    """Without training for no epochs."""
    return tuple(stage for stage in plan if not isinstance(stage, Fit) or stage.begin < stage.end)


def _searching(
    options: TrainOptions,
    lr: float,
    milestones: tuple[int, ...] | None,
    search: Search,
    tried: Sequence[Tried],
    shown: int,
) -> tuple[Stage, ...]:
    """The tries so far and the next one, or what follows the last."""
    plan = list[Stage]()
    share = _schedule(options, max(1, options.retrain_epochs // _SHARE), lr, milestones and ())
    whole = _schedule(options, options.retrain_epochs, lr, milestones)
    following = search.next_step(tried)
    spent = 0
    for step in [*(Step(one.rate, one.whole) for one in tried), *([] if following is None else [following])]:
        schedule, phase = (whole, "whole") if step.whole else (share, "try")
        if not step.whole:
            plan.append(Prune(step.rate / search.most if search.most else 0))
        plan.append(Fit(f"{phase} {step.rate:.3g}", schedule, 0, schedule.epochs, shown + spent))
        plan.append(Judge(step.rate, step.whole))
        spent += schedule.epochs
    if following is None:
        epochs = max(1, min(whole.epochs, 2 * whole.epochs - spent))
        retrain = replace(whole, epochs=epochs)
        plan += [Fit("retrain", retrain, 0, epochs, shown + spent), Judge(search.found(tried).rate, final=True)]
    return tuple(plan)


def _schedule(
    options: TrainOptions, epochs: int, lr: float, milestones: tuple[int, ...] | None, warmup: float = 0.0
) -> Schedule:
    if milestones is None:
        milestones = (epochs // 2,) if epochs > 1 else ()
    return Schedule(
        epochs,
        lr,
        milestones,
        options.optimizer,
        options.momentum,
        options.weight_decay,
        options.amp,
        options.schedule,
        min(warmup, epochs / 2),
        options.lr_head and options.lr_head * lr / options.lr,
        options.label_smoothing,
        options.clip_grad,
    )


def rates(options: TrainOptions, part: float, packable: Sequence[ParamSpec]) -> dict[str, float]:
    """The prune rate of every packable parameter; among rules that match, the last one counts.

    The rule ``depthwise`` matches convolutions of one input channel a filter, which a network need not have. They hold
    a percent of a network's weights and can spare none (docs/results.md): without a rule for them they keep theirs.

    Raises:
        UsageError: another rule matches none of them.
    """
    names = [param.name for param in packable]
    depthwise = [param.name for param in packable if len(param.shape) > 2 and param.shape[1] == 1]
    chosen = dict.fromkeys(names, options.prune_rate) | dict.fromkeys(depthwise, 0.0)
    for rule in options.layer_rates:
        pattern, rate = layer_rate(rule)
        matching = depthwise if pattern == DEPTHWISE else [name for name in names if fnmatchcase(name, pattern)]
        if not matching and pattern != DEPTHWISE:
            raise UsageError(
                f"--layer-rate {rule}: matches no packable parameter; they are named like {', '.join(names[:3])}"
            )
        chosen |= dict.fromkeys(matching, rate)
    return {name: part * rate for name, rate in chosen.items()}
