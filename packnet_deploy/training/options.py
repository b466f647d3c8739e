"""What ``packnet train`` can be told: one frozen dataclass behind the flags, the recipes and their defaults.

A recipe is TOML: top-level keys set options for every task, each ``[[task]]`` table sets or overrides them for one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError

QUICKSTART_RECIPE = Path(__file__).parent / "recipes" / "quickstart.toml"
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "Path": (str, Path)}


def option(default: Any, text: str) -> Any:
    """A field with its help text; the command line takes both from here."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainOptions:
    """Adding one task to a pack."""

    task: str = option("", "Name of the task; 1 to 64 letters, digits, '.', '_' or '-'.")
    data: str | None = option(
        None, "Images: a folder with train/ and val/ or test/, one folder a class in each; or builtin:NAME."
    )
    pack: Path | None = option(None, "The pack to make or to add to.  [default: the only *.pack here, or packnet.pack]")
    arch: str | None = option(None, "The network, for a new pack: a torchvision classifier.  [default: resnet18]")
    weights: str | None = option(
        None, "Its weights, for a new pack: a state-dict file, 'imagenet' or 'none'.  [default: imagenet]"
    )
    image_size: int | None = option(None, "Side of the input in pixels, for a new pack.  [default: the network's own]")
    prune_rate: float = option(0.75, "Fraction of the task's weights to give back, 0..1.")
    epochs: int = option(20, "Epochs before pruning. 0 on a new pack's first task keeps the given network and head.")
    retrain_epochs: int = option(10, "Epochs after pruning; an added task's at a tenth of the learning rate.")
    batch_size: int = option(32, "Images per step.")
    lr: float = option(0.001, "Learning rate; a tenth of it in the second half of the epochs.")
    momentum: float = option(0.9, "Momentum of SGD.")
    weight_decay: float = option(0.0, "Weight decay of SGD.")
    value_dtype: str = option("float32", "How weights are stored: float32, float16 or bfloat16.")
    seed: int = option(0, "Seed of everything random.")
    device: str = option("auto", "auto, cpu or cuda.")
    workers: int | None = option(None, "Processes that decode images too many for memory.  [default: one a core]")

    def __post_init__(self) -> None:
        for name, low, high in (
            ("prune_rate", 0, 1),
            ("epochs", 0, None),
            ("retrain_epochs", 0, None),
            ("batch_size", 1, None),
            ("momentum", 0, 1),
            ("weight_decay", 0, None),
            ("image_size", 8, 1 << 14),
            ("workers", 0, None),
            ("seed", 0, (1 << 63) - 1),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= (math.inf if high is None else high):  # NaN is in no range
                expected = f"{low}..{high}" if high is not None else f"{low} or more"
                raise UsageError(f"{flag(name)}: expected {expected}, got {value}")
        for name in ("lr", "weight_decay"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"{flag(name)}: expected a finite number, got {getattr(self, name)}")
        if not self.lr > 0:
            raise UsageError(f"--lr: expected above 0, got {self.lr}")
        for name, known in (("value_dtype", ("float32", "float16", "bfloat16")), ("device", ("auto", "cpu", "cuda"))):
            if getattr(self, name) not in known:
                raise UsageError(f"{flag(name)}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")


def flag(name: str) -> str:
    """The command line's spelling of a field."""
    return "--" + name.replace("_", "-")


def read_recipe(path: Path, **overrides: Any) -> list[TrainOptions]:
    """The tasks of a recipe, in order; ``overrides`` win over what it says (``weights`` are the first task's alone).

    Raises:
        EnvironmentFault: the file cannot be read.
        ArtefactError: it is not TOML.
        UsageError: it names an unknown key, gives a wrong type, has no task, or two of one name.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from packnet_deploy.pack.manifest import is_task_name  # numpy, which the flags alone can do without

    try:
        content = path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"{path}: the recipe cannot be read ({error.strerror})") from error
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: not a recipe, TOML says: {error}") from error
    tasks = document.pop("task", [])
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise UsageError(f"{path}: expected one [[task]] table for each task, got none")
    common = replace(TrainOptions(), **_checked(document, str(path)))
    chosen: list[TrainOptions] = []
    for number, table in enumerate(tasks, start=1):
        where = f"{path}: [[task]] {number}"
        values = _checked({"task": table.pop("name", None), **table}, where)
        if not values["task"]:
            raise UsageError(f"{where}: it has no name")
        if not is_task_name(values["task"]) or any(values["task"] == other.task for other in chosen):
            raise UsageError(
                f"{where}: name: expected one of its own, 1 to 64 letters, digits, '.', '_' or '-', "
                f"got {values['task']!r}"
            )
        chosen.append(replace(common, **(values | overrides)))
        common = replace(common, weights=None)  # they are the first task's; the pack has its own from then on
        overrides.pop("weights", None)
    return chosen


def _checked(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The table's values, each known and of its field's type."""
    known = {f.name: str(f.type) for f in fields(TrainOptions)}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(known)}")
        kinds = _TYPES[known[key].removesuffix(" | None")]
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise UsageError(f"{where}: {key}: expected {known[key]}, got {value!r}")
    return {key: Path(value) if known[key].startswith("Path") else value for key, value in table.items()}
