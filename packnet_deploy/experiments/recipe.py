"""An experiment's recipe: which methods are compared, on which tasks, in which orders, with which seeds (TOML).

Columns say what is compared and hold at every scale; each ``[scale.NAME]`` says on which network and images. The
whole schema is in docs/experiments.md. Turning it into runs is design.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from packnet_deploy.errors import UsageError
from packnet_deploy.training.options import NETWORK_TASK, TrainOptions
from packnet_deploy.training.recipe import Kind, checked, read_toml

# train/recipes/ of the tree; a wheel carries the same files as packnet_deploy/experiments/recipes/.
_PLACES = (Path(__file__).parents[2] / "train" / "recipes", Path(__file__).parent / "recipes")

VIEWS = ("table", "bars", "paired", "drift", "order", "ratio", "ownership")
MOST_ORDERS = 720  # six added tasks in every order; more is a slip
ORDERS = ("given", "each", "all", "none")
BY_ORDER = "by order"  # in place of seeds: the first order with seed 0, the second with 1, ...
_BY_DESIGN = ("task", "data", "pack", "seed")  # set by the design, not as options
_OPTIONS = tuple(f.name for f in fields(TrainOptions) if f.name not in _BY_DESIGN)
_TEXT, _LIST, _TABLE = Kind(str, "a text"), Kind(list, "a list"), Kind(dict, "a table")
_ANY = Kind(Any, "anything")  # looked at where it is used
_TRAINING = dict.fromkeys(_OPTIONS, _ANY)

Table = Mapping[str, Any]
Order = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One task: ``data`` is a data set's URI, or None for a network taken as it is; ``options`` are training's."""

    name: str
    label: str
    data: str | None
    options: Table


@dataclass(frozen=True)
class Column:
    """One thing that is compared: a method and its settings, as training options.

    Attributes:
        options: for every task; they win over the task's own.
        first: for the first task, over ``options``.
        added: for the other tasks, over ``options``.
        trials: each order of the added tasks that is trained, with a seed.
    """

    key: str
    label: str
    group: str
    options: Table
    first: Table
    added: Table
    trials: tuple[tuple[Order, int], ...]

    @property
    def method(self) -> str:
        method: str = self.options.get("method", TrainOptions.method)
        return method


@dataclass(frozen=True)
class Experiment:
    """A recipe at one scale. ``tasks`` begins with the first task; the others are added in the columns' orders."""

    name: str
    scale: str
    title: str
    about: str
    paper: str
    views: tuple[str, ...]
    common: Table  # training options of every task
    tasks: tuple[Task, ...]
    columns: tuple[Column, ...]

    @property
    def network_first(self) -> bool:
        """Whether the first task is the pretrained network that ``packnet train`` itself begins a pack with."""
        return _is_network(self.tasks[0])


def read_experiment(path: Path, scale: str) -> Experiment:
    """Read the recipe at ``path`` at one of its scales.

    Raises:
        EnvironmentFault: the file cannot be read.
        ArtefactError: it is not TOML.
        UsageError: something in it is unknown, missing or of the wrong kind; says where.
    """
    where = str(path)
    document = checked(
        read_toml(path, "experiment recipe"),
        where,
        {"title": _TEXT, "about": _TEXT, "paper": _TEXT, "views": _LIST, "column": _TABLE, "scale": _TABLE},
        needed=("title", "column", "scale"),
    )
    scales = document["scale"]
    if scale not in scales:
        raise UsageError(f"{where}: no scale {scale!r}; it has: {', '.join(scales)}")
    here = f"{where}: [scale.{scale}]"
    chosen = checked(
        scales[scale],
        here,
        {"about": _TEXT, "tasks": _LIST, "orders": _ANY, "seeds": _ANY, "columns": _LIST}
        | {"options": _TABLE, "task": _TABLE, "column": _TABLE},
        needed=("tasks", "task"),
    )
    tasks = _tasks(chosen, here)
    views = tuple(document.get("views", ("table",)))
    if unknown := [view for view in views if view not in VIEWS]:
        raise UsageError(f"{where}: views: expected some of {', '.join(VIEWS)}, got {unknown[0]!r}")
    return Experiment(
        name=path.stem,
        scale=scale,
        title=document["title"],
        about="\n\n".join(text.strip() for text in (document.get("about", ""), chosen.get("about", "")) if text),
        paper=document.get("paper", ""),
        views=views,
        common=checked(chosen.get("options", {}), f"{here} options", _TRAINING),
        tasks=tasks,
        columns=_columns(document["column"], chosen, tasks, where, scale),
    )


def _tasks(scale: Table, where: str) -> tuple[Task, ...]:
    names = _names(scale["tasks"], scale["task"], f"{where} tasks", "[task] tables")
    if len(names) < 2:
        raise UsageError(f"{where} tasks: expected the first task and one or more that are added, got {len(names)}")
    made = []
    for name in names:
        kinds = {"label": _TEXT, "data": _TEXT} | _TRAINING
        table = checked(scale["task"][name], f"{where} task.{name}", kinds)
        options = {key: value for key, value in table.items() if key not in ("label", "data")}
        made.append(Task(name, table.get("label", name), table.get("data"), options))
    if _is_network(first := made[0]):
        here = f"{where} task.{first.name}"
        if first.name != NETWORK_TASK:
            raise UsageError(
                f"{here}: start: expected the first task to be called {NETWORK_TASK} where it is the network itself, "
                f"got {first.name!r}"
            )
        _left_to_training(set(first.options) - {"start"}, here)
    return tuple(made)


def _is_network(task: Task) -> bool:
    return task.data is None and task.options.get("start") == "network"


def _left_to_training(options: Collection[str], where: str) -> None:
    if options:
        raise UsageError(
            f'{where}: {min(options)}: start = "network" leaves to packnet train what its first task is; leave it out'
        )


def _columns(tables: Table, scale: Table, tasks: Sequence[Task], where: str, scale_name: str) -> tuple[Column, ...]:
    """The columns this scale asks for, what it says about each merged into what the recipe says."""
    is_network, added = _is_network(tasks[0]), [task.name for task in tasks[1:]]
    changes = scale.get("column", {})
    _names(list(changes), tables, f"{where}: [scale.{scale_name}.column]", "columns")
    chosen = _names(scale.get("columns", list(tables)), tables, f"{where}: [scale.{scale_name}] columns", "columns")
    kinds = {"label": _TEXT, "group": _TEXT, "first": _TABLE, "added": _TABLE, "orders": _ANY, "seeds": _ANY}
    kinds |= _TRAINING
    made = []
    for key in chosen:
        here = f"{where}: column.{key}"
        table = checked(tables[key], here, kinds)
        change = checked(changes.get(key, {}), f"{where}: scale.{scale_name}.column.{key}", kinds)
        first, later = (table.pop(part, {}) | change.get(part, {}) for part in ("first", "added"))
        if is_network:
            _left_to_training(first, f"{here}.first")
        table = {"orders": "given", "seeds": [0]} | {k: scale[k] for k in ("orders", "seeds") if k in scale} | table
        table |= {name: value for name, value in change.items() if name not in ("first", "added")}
        orders = _orders(table["orders"], added, f"{here}: orders")
        if is_network and () in orders:
            raise UsageError(f"{here}: orders: expected tasks that are added, got no task but {NETWORK_TASK}")
        made.append(
            Column(
                key=key,
                label=table.get("label", key),
                group=table.get("group", ""),
                options={name: value for name, value in table.items() if name in _OPTIONS},
                first=checked(first, f"{here}.first", _TRAINING),
                added=checked(later, f"{here}.added", _TRAINING),
                trials=_with_seeds(orders, table["seeds"], f"{here}: seeds"),
            )
        )
    return tuple(made)


def _orders(asked: Any, added: Sequence[str], where: str) -> tuple[Order, ...]:
    if asked == "given":
        return (tuple(added),)
    if asked == "none":
        return ((),)
    if asked == "each":
        return tuple((name,) for name in added)
    if asked == "all":
        if math.factorial(len(added)) > MOST_ORDERS:
            raise UsageError(f"{where}: 'all' of {len(added)} tasks is more than {MOST_ORDERS}; list some instead")
        return tuple(itertools.permutations(added))
    if not isinstance(asked, list) or not asked or not all(isinstance(order, list) and order for order in asked):
        raise UsageError(f"{where}: expected one of {', '.join(ORDERS)}, or a list of lists of tasks, got {asked!r}")
    orders = tuple(tuple(_names(order, added, where, "added tasks")) for order in asked)
    if len(set(orders)) < len(orders):
        raise UsageError(f"{where}: an order is listed twice")
    return orders


def _with_seeds(orders: Sequence[Order], seeds: Any, where: str) -> tuple[tuple[Order, int], ...]:
    """Every order with every seed, or each with one of its own."""
    if seeds == BY_ORDER:
        return tuple((order, seed) for seed, order in enumerate(orders))
    if not isinstance(seeds, list):
        raise UsageError(f"{where}: expected a list, or {BY_ORDER!r}, got {seeds!r}")
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise UsageError(f"{where}: expected one or more different whole numbers, got {seeds!r}")
    return tuple(itertools.product(orders, seeds))


def _names(names: list[Any], known: Sequence[str] | Table, where: str, what: str) -> list[str]:
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise UsageError(f"{where}: {name!r} is not among the {what}: {', '.join(known) or 'none'}")
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: one is listed twice")
    return names


def shipped_recipes() -> dict[str, Path]:
    """Name to file, sorted by name."""
    found = {path.stem: path for place in _PLACES for path in place.glob("*.toml")}
    return dict(sorted(found.items()))


def recipe_path(asked: str) -> Path:
    """A file's path, or the name of a recipe that came with the package.

    Raises:
        UsageError: it is neither.
    """
    if asked.endswith(".toml") or Path(asked).is_file():
        return Path(asked)
    if (path := shipped_recipes().get(asked)) is None:
        known = ", ".join(shipped_recipes()) or "none here"
        raise UsageError(f"{asked}: expected a recipe's file or the name of one of: {known}")
    return path
