"""What ``packnet train`` can be told: one frozen dataclass behind the flags, the recipes and their defaults.

Reading recipes is recipe.py; what the phases of a task are is stages.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packnet_deploy.errors import UsageError

METHODS = ("packnet", "classifier-only", "individual", "joint", "lwf", "filter-pruning")
CHOICES = {
    "method": METHODS,
    "start": ("network", "task"),
    "pattern": ("2:4",),
    "layers": ("all", "fc", "classifier"),
    "separate": ("biases", "norm"),
    "optimizer": ("sgd", "adamw"),
    "amp": ("none", "bf16", "fp16"),
    "value_dtype": ("float32", "float16", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
DEPTHWISE = "depthwise"  # in place of a pattern in layer_rates
_RANGES: dict[str, tuple[float, float]] = {
    "prune_rate": (0, 1),
    "prune_steps": (1, math.inf),
    "epochs": (0, math.inf),
    "retrain_epochs": (0, math.inf),
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
class TrainOptions:
    """Adding one task to a pack. ``None`` stands for a default that depends on the rest, as the help says."""

    task: str = option("", "Name of the task; 1 to 64 letters, digits, '.', '_' or '-'.")
    data: str | None = option(
        None,
        "Images: a folder with train/ and val/ or test/, one folder a class in each; or NAME:DIR of a known data set "
        "(imagenet, places365, cub200, cars, flowers102, imagefolder), or builtin:NAME.",
    )
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
        "What a new pack begins with: 'network', the given weights as a task of their own with half of them freed, or "
        "'task', this task itself.  [default: network, if its weights are pretrained and --data is not imagenet:]",
    )
    reference: str | None = option(
        None,
        "Images, as for --data, by which a pretrained network taken as it is (see --start; or --epochs 0) learns to "
        "see again what it saw before it was pruned; labels are not used. 'none': it does not.  [default: --data's]",
    )
    image_size: int | None = option(None, "Side of the input in pixels, for a new pack.  [default: the network's own]")
    pattern: str | None = option(
        None, "For a new pack: 2:4 keeps the union of all tasks in the form that sparse tensor cores run."
    )
    layers: str = option("all", "Which layers the task may change besides its head: all, fc or classifier (none).")
    separate: tuple[str, ...] = option((), "What an added task has of its own instead of task 1's: biases, norm")
    prune_rate: float = option(0.75, "Fraction of the task's weights to give back, 0..1.")
    layer_rates: tuple[str, ...] = option(
        (), "Another rate for some layers: 'features.*=0.5', by parameter name, or 'depthwise=0'"
    )
    prune_steps: int = option(1, "Prune in so many steps, the retraining epochs shared out between them.")
    epochs: int = option(20, "Epochs before pruning. 0 on a new pack's first task keeps the given network and head.")
    lr: float = option(0.001, "Learning rate.")
    milestones: tuple[int, ...] | None = option(
        None, "Epochs after which the rate drops to a tenth  [default: half of them]"
    )
    retrain_epochs: int = option(10, "Epochs after pruning.")
    retrain_lr: float | None = option(None, "Their learning rate.  [default: --lr; for an added task a tenth of it]")
    retrain_milestones: tuple[int, ...] | None = option(
        None, "The same for the epochs after pruning  [default: half of them; for an added task none]"
    )
    batch_size: int = option(32, "Images per step, of all processes together.")
    optimizer: str = option("sgd", "sgd or adamw.")
    momentum: float = option(0.9, "Momentum of SGD.")
    weight_decay: float = option(0.0, "Weight decay.")
    amp: str = option("none", "Mixed precision: none, bf16 or fp16.")
    channels_last: bool = option(True, "Keep images and weights in channels-last order, which convolutions like.")
    value_dtype: str = option("float32", "How weights are stored: float32, float16 or bfloat16.")
    seed: int = option(0, "Seed of everything random.")
    device: str = option("auto", "auto, cpu or cuda.")
    workers: int | None = option(None, "Processes that decode images too many for memory.  [default: one a core]")
    skip_bad_images: bool = option(False, "Leave out images that cannot be read, and list them, instead of stopping.")

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, known in CHOICES.items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None and one not in known:
                    raise UsageError(f"{flag(name)}: expected one of {', '.join(known)}, got {one!r}")
        for name, epochs in (("milestones", self.epochs), ("retrain_milestones", self.retrain_epochs)):
            for milestone in getattr(self, name) or ():
                if not 0 < milestone < max(epochs, 1):
                    raise UsageError(f"{flag(name)[:-1]}: expected above 0 and below {epochs} epochs, got {milestone}")
        for rule in self.layer_rates:
            layer_rate(rule)
        if self.prune_steps > max(self.retrain_epochs, 1):
            raise UsageError(
                f"--prune-steps {self.prune_steps}: expected one retraining epoch or more for each step, "
                f"got --retrain-epochs {self.retrain_epochs}"
            )

    def _check_numbers(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is in no range
                expected = f"{low}..{high}" if high < math.inf else f"{low} or more"
                raise UsageError(f"{flag(name)}: expected {expected}, got {value}")
        for name in ("lr", "retrain_lr", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{flag(name)}: expected a finite number, got {value}")
            if value is not None and name != "weight_decay" and not value > 0:
                raise UsageError(f"{flag(name)}: expected above 0, got {value}")


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
