"""What ``packnet train`` can be told: one frozen dataclass behind the flags, the recipes and their defaults.

``TrainOptions`` is made of groups, which are the headings of ``packnet train --help``: images, network, packing,
optimisation, machine. What a protocol says in place of an option that was not given is ``PROTOCOLS``. Reading recipes
is recipe.py; what the phases of a task are is stages.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from packnet_deploy.errors import UsageError

AUGMENTATIONS = ("crop", "random-resized-crop", "flip", "color-jitter", "trivial-augment", "rand-augment", "erasing")
EITHER_OR = (("crop", "random-resized-crop"), ("trivial-augment", "rand-augment"))  # one is in place of the other
METHODS = ("packnet", "classifier-only", "head-and-norm", "individual", "joint", "lwf", "filter-pruning")
CHOICES = {
    "method": METHODS,
    "start": ("network", "task"),
    "init": ("pretrained", "zero"),
    "pattern": ("2:4",),
    "framing": ("crop", "whole", "pad"),
    "augment": (*AUGMENTATIONS, "none"),
    "layers": ("all", "fc", "classifier"),
    "separate": ("biases", "norm", "depthwise", "none"),
    "score": ("magnitude", "taylor"),
    "protocol": ("tuned", "paper"),
    "schedule": ("cosine", "step"),
    "optimizer": ("sgd", "adamw"),
    "amp": ("none", "bf16", "fp16"),
    "value_dtype": ("float32", "float16", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
# What stands for an option that is not given. "paper": Mallya and Lazebnik, section 4. "tuned": chosen on validation
# images of small sets (docs/results.md).
PROTOCOLS: dict[str, dict[str, Any]] = {
    "tuned": {
        "init": "pretrained",
        "separate": ("norm", "depthwise"),
        "score": "magnitude",
        "schedule": "cosine",
        "lr": 0.02,
        "warmup": 1.0,
        "clip_grad": 2.0,
    },
    "paper": {
        "init": "zero",
        "separate": (),
        "score": "magnitude",
        "schedule": "step",
        "lr": 0.001,
        "warmup": 0.0,
        "clip_grad": 0.0,
    },
}
NETWORK_TASK = "pretrained"  # what --start network puts before the first task
DEPTHWISE = "depthwise"  # in place of a pattern in layer_rates
_RANGES: dict[str, tuple[float, float]] = {
    "prune_rate": (0, 1),
    "prune_steps": (1, math.inf),
    "max_drop": (0, 1),
    "tasks_to_come": (1, 254),
    "epochs": (0, math.inf),
    "freeze_epochs": (0, math.inf),
    "retrain_epochs": (0, math.inf),
    "retrain_lr_factor": (0, math.inf),
    "warmup": (0, math.inf),
    "clip_grad": (0, math.inf),
    "label_smoothing": (0, 1),
    "val_fraction": (0, 0.9),
    "batch_size": (1, math.inf),
    "momentum": (0, 1),
    "weight_decay": (0, math.inf),
    "image_size": (8, 1 << 14),
    "workers": (0, math.inf),
    "seed": (0, (1 << 63) - 1),
}


def option(default: Any, text: str) -> Any:
    """A field with its help text; the command line takes both from here."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ImageOptions:
    """Images"""

    task: str = option("", "Name of the task; 1 to 64 letters, digits, '.', '_' or '-'.")
    data: str | None = option(
        None,
        "Images: a folder with train/ and val/ or test/, one folder a class in each; or NAME:DIR of a known data set "
        "(imagenet, places365, cub200, cars, flowers102, imagefolder), or builtin:NAME.",
    )
    image_size: int | None = option(None, "Side of the input in pixels, for a new pack.  [default: the network's own]")
    framing: str | None = option(
        None,
        "How images are brought to the input: crop (the shorter side fits, the middle is seen), whole (squashed) or "
        "pad (all is seen, the rest is black). Kept with the task.  [default: whole where the set has bounding boxes, "
        "to which its images are cut; else crop]",
    )
    augment: tuple[str, ...] | None = option(
        None,
        f"What training does to images beyond what evaluation does: {', '.join(AUGMENTATIONS)}, or none  "
        "[default: crop, and flip where the set allows it]",
    )
    val_fraction: float | None = option(
        None,
        "How much of each class's training images to hold out for choosing epochs, where a set brings no such images. "
        "0: train on all of them, and keep the last epoch.  [default: 0.1]",
    )
    skip_bad_images: bool = option(False, "Leave out images that cannot be read, and list them, instead of stopping.")


@dataclass(frozen=True)
class NetworkOptions:
    """Network and pack"""

    pack: Path | None = option(None, "The pack to make or to add to.  [default: the only *.pack here, or packnet.pack]")
    method: str = option("packnet", f"How tasks share the network: {', '.join(METHODS)}.")
    arch: str | None = option(
        None, "The network, for a new pack: a torchvision classifier, see --list-archs.  [default: resnet18]"
    )
    weights: str | None = option(
        None,
        "Its weights, for a new pack: a state-dict file, a name torchvision knows (IMAGENET1K_V1), 'imagenet' "
        "(torchvision's best) or 'none'.  [default: imagenet]",
    )
    start: str | None = option(
        None,
        "What a new pack begins with: 'network', the given weights as a task of their own, the smallest three tenths "
        "freed, or 'task', this task itself.  [default: network, if its weights are pretrained and --data is not "
        "imagenet:]",
    )
    reference: str | None = option(
        None,
        "Images, as for --data, by which a pretrained network taken as it is (see --start; or --epochs 0) learns to "
        "see again what it saw before it was pruned; labels are not used. For whoever needs that network's own task; "
        "'none': it does not.  [default: none]",
    )
    init: str = option(
        None,
        "What free weights start from in an added task: 'pretrained', the values the pretrained network had there, "
        "kept beside the pack, or 'zero' (the paper).  [default: pretrained; with --protocol paper zero]",
    )


@dataclass(frozen=True)
class PackingOptions:
    """Packing"""

    pattern: str | None = option(
        None, "For a new pack: 2:4 keeps the union of all tasks in the form that sparse tensor cores run."
    )
    layers: str = option("all", "Which layers the task may change besides its head: all, fc or classifier (none).")
    separate: tuple[str, ...] = option(
        None,
        "What an added task has of its own instead of task 1's: biases, norm, depthwise (filters, a few percent of the "
        "weights, which are then not packed; for a new pack), or none  "
        "[default: norm and depthwise; with --protocol paper none]",
    )
    prune_rate: float = option(
        None,
        "Fraction of the task's weights to give back, 0..1; with --max-drop the most that is tried.  [default: 0.75; "
        "with --max-drop 0.95; with --tasks-to-come N/(N+1); with --last 0]",
    )
    max_drop: float | None = option(
        None,
        "Find the highest rate that costs no more than this: by how much the error on the validation images, 0..1, may "
        "rise over the unpruned task's.",
    )
    tasks_to_come: int | None = option(
        None, "Leave room for so many more tasks of this one's size: the rate, and with --max-drop the least rate."
    )
    last: bool = option(False, "No task will follow: prune nothing, and train all epochs before.")
    layer_rates: tuple[str, ...] = option(
        (),
        "Another rate for some layers: 'features.*=0.5', by parameter name, or 'depthwise=0.5'; depthwise filters, "
        "which can spare nothing, otherwise keep theirs where they are packed",
    )
    score: str = option(
        None,
        "By what pruning chooses weights: their magnitude, or taylor, (weight * gradient)² on training images.  "
        "[default: magnitude]",
    )
    prune_steps: int = option(
        None,
        "Prune in so many steps, an epoch apart, the last after --epochs.  [default: half of them and one more; with "
        "--protocol paper 1]",
    )
    value_dtype: str = option("float32", "How weights are stored: float32, float16 or bfloat16.")


@dataclass(frozen=True)
class OptimisationOptions:
    """Optimisation"""

    protocol: str = option(
        "tuned", "What options that are not given stand for: tuned, for small sets of images, or paper."
    )
    epochs: int = option(20, "Epochs before pruning. 0 on a new pack's first task keeps the given network and head.")
    freeze_epochs: int = option(0, "Epochs before those in which only the head is trained.")
    retrain_epochs: int = option(10, "Epochs after pruning.")
    lr: float = option(None, "Learning rate.  [default: 0.02; with --protocol paper 0.001]")
    lr_head: float | None = option(None, "That of the head, if it is to have another.  [default: --lr]")
    schedule: str = option(
        None,
        "How it falls: cosine, to 0 over all epochs before and after pruning, or step, to a tenth at each milestone.  "
        "[default: cosine; with --protocol paper step]",
    )
    warmup: float = option(
        None, "Epochs in which it first rises from 0, before pruning.  [default: 1; with --protocol paper 0]"
    )
    milestones: tuple[int, ...] | None = option(
        None, "Epochs after which a step schedule drops to a tenth  [default: half of them]"
    )
    retrain_lr: float | None = option(
        None,
        "The learning rate that begins anew after pruning.  [default: cosine goes on falling; step begins with --lr, "
        "for an added task with --lr times --retrain-lr-factor]",
    )
    retrain_lr_factor: float | None = option(
        None,
        "Where it begins anew for an added task, it does so at this part of --lr.  [default: 0.1; with --max-drop 0.5, "
        "unless in steps]",
    )
    retrain_milestones: tuple[int, ...] | None = option(
        None, "As --milestone, for the epochs after pruning  [default: half of them; for an added task none]"
    )
    batch_size: int = option(32, "Images per step, of all processes together.")
    label_smoothing: float = option(0.0, "How much of each label goes to all classes, 0..1.")
    optimizer: str = option("sgd", "sgd or adamw.")
    momentum: float = option(0.9, "Momentum of SGD.")
    weight_decay: float = option(0.0, "Weight decay.")
    clip_grad: float = option(
        None,
        "Shorten a step's gradient to this norm, all weights together; 0: never.  "
        "[default: 2; with --protocol paper 0]",
    )


@dataclass(frozen=True)
class MachineOptions:
    """Machine"""

    seed: int = option(0, "Seed of everything random.")
    device: str = option("auto", "auto, cpu or cuda.")
    amp: str = option("none", "Mixed precision: none, bf16 or fp16.")
    channels_last: bool = option(True, "Keep images and weights in channels-last order, which convolutions like.")
    workers: int | None = option(None, "Processes that decode images too many for memory.  [default: one a core]")


@dataclass(frozen=True)
class TrainOptions(MachineOptions, OptimisationOptions, PackingOptions, NetworkOptions, ImageOptions):
    """Adding one task to a pack. ``None`` stands for a default that depends on the rest, as the help says; what
    depends on the protocol alone is filled in."""

    def __post_init__(self) -> None:
        self._check_choices()
        if self.arch is not None:
            object.__setattr__(self, "arch", self.arch.lower())  # as all of torchvision's are called
        for name, value in PROTOCOLS[self.protocol].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, default in (("prune_rate", self._default_rate), ("prune_steps", self._default_steps)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default())
        for name in ("separate", "augment"):
            if (named := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(kind for kind in named if kind != "none"))
        self._check_numbers()
        for name, epochs in (("milestones", self.epochs), ("retrain_milestones", self.retrain_epochs)):
            for milestone in getattr(self, name) or ():
                if not 0 < milestone < max(epochs, 1):
                    raise UsageError(f"{flag(name)[:-1]}: expected above 0 and below {epochs} epochs, got {milestone}")
        for rule in self.layer_rates:
            layer_rate(rule)
        if self.prune_steps > max(self.epochs + self.retrain_epochs, 1):
            raise UsageError(
                f"--prune-steps {self.prune_steps}: expected an epoch or more for each step, got --epochs "
                f"{self.epochs} and --retrain-epochs {self.retrain_epochs}"
            )
        self._check_rate()

    @property
    def least_rate(self) -> float:
        """What has to be given back for the tasks to come."""
        return self.tasks_to_come / (self.tasks_to_come + 1) if self.tasks_to_come else 0.0

    def _default_rate(self) -> float:
        if self.last:
            return 0.0
        return max(0.95, self.least_rate) if self.max_drop is not None else self.least_rate or 0.75

    def _default_steps(self) -> int:
        pruned = not self.last and self.max_drop is None and (self.prune_rate > 0 or bool(self.layer_rates))
        return 1 + max(self.epochs, 0) // 2 if pruned and self.protocol == "tuned" else 1

    def _check_rate(self) -> None:
        """What says how much to prune must not contradict itself."""
        pruning = {
            "--max-drop": self.max_drop is not None,
            "--tasks-to-come": self.tasks_to_come is not None,
            "--prune-rate": self.prune_rate > 0,
            "--layer-rate": bool(self.layer_rates),
            "--prune-steps": self.prune_steps > 1,
        }
        if self.last and (asked := [name for name, there in pruning.items() if there]):
            raise UsageError(f"--last: nothing is pruned then; leave out {', '.join(asked)}")
        if self.max_drop is None and self.tasks_to_come and self.prune_rate != self.least_rate:
            raise UsageError(
                f"--tasks-to-come {self.tasks_to_come}: the rate is {self.least_rate:.3g} then, got --prune-rate "
                f"{self.prune_rate:g}; leave one of them out"
            )
        if self.prune_rate < self.least_rate:
            raise UsageError(
                f"--tasks-to-come {self.tasks_to_come}: expected a --prune-rate of {self.least_rate:.3g} or more, got "
                f"{self.prune_rate:g}"
            )
        if self.max_drop is not None and self.prune_steps > 1:
            raise UsageError("--max-drop: it prunes in steps of its own; leave --prune-steps out")
        if self.max_drop is not None and not self.retrain_epochs:
            raise UsageError("--max-drop: expected --retrain-epochs 1 or more, got 0")

    def _check_choices(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None and one not in known:
                    raise UsageError(f"{flag(name)}: expected one of {', '.join(known)}, got {one!r}")
        for excluded in (*EITHER_OR, *(("none", name) for name in AUGMENTATIONS)):
            if set(excluded) <= set(self.augment or ()):
                raise UsageError(f"--augment: expected {' or '.join(excluded)}, got both")

    def _check_numbers(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is in no range
                expected = f"{low}..{high}" if high < math.inf else f"{low} or more"
                raise UsageError(f"{flag(name)}: expected {expected}, got {value}")
        for name in ("lr", "lr_head", "retrain_lr", "retrain_lr_factor", "max_drop", "weight_decay", "warmup"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{flag(name)}: expected a finite number, got {value}")
            if value is not None and name not in ("weight_decay", "warmup") and not value > 0:
                raise UsageError(f"{flag(name)}: expected above 0, got {value}")


def groups() -> dict[str, str]:
    """By option, the heading it stands under in the help."""
    return {item.name: str(base.__doc__) for base in TrainOptions.__bases__[::-1] for item in fields(base)}


def layer_rate(rule: str) -> tuple[str, float]:
    """One of ``layer_rates``: a pattern of parameter names (as in a shell), and the rate for what matches it.

    Raises:
        UsageError: it is not ``PATTERN=RATE`` with a rate of 0..1.
    """
    pattern, _, number = rule.rpartition("=")
    try:
        rate = float(number)
    except ValueError:
        rate = math.nan
    if not pattern or not 0 <= rate <= 1:
        raise UsageError(f"--layer-rate: expected PATTERN=RATE with a rate of 0..1, got {rule!r}")
    return pattern, rate


def flag(name: str) -> str:
    """The command line's spelling of a field."""
    return "--" + name.replace("_", "-")
