"""An experiment's recipe: which methods are compared, on which tasks, in which orders, with which seeds (TOML).

Columns say what is compared and hold at every scale; each ``[scale.NAME]`` says on which network and images. The
whole schema is in docs/experiments.md. Turning it into runs is plan.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from packnet_deploy.errors import UsageError
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import read_toml

VIEWS = ("table", "bars", "drift", "order", "ratio", "ownership")
MOST_ORDERS = 720  # six added tasks in every order; more is a slip
ORDERS = ("given", "each", "all")
_PLANNED = ("task", "data", "pack", "seed")  # set by the plan, not as options
_OPTIONS = tuple(f.name for f in fields(TrainOptions) if f.name not in _PLANNED)
_ANY = object()

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
        orders: the added tasks, in each order that is trained.
    """

    key: str
    label: str
    group: str
    options: Table
    first: Table
    orders: tuple[Order, ...]
    seeds: tuple[int, ...]

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


def read_experiment(path: Path, scale: str) -> Experiment:
    """Read the recipe at ``path`` at one of its scales.

    Raises:
        EnvironmentFault: the file cannot be read.
        ArtefactError: it is not TOML.
        UsageError: something in it is unknown, missing or of the wrong kind; says where.
    """
    where = str(path)
    document = _checked(
        read_toml(path, "experiment recipe"),
        where,
        {"title": str, "about": str, "paper": str, "views": list, "column": dict, "scale": dict},
        needed=("title", "column", "scale"),
    )
    scales = document["scale"]
    if scale not in scales:
        raise UsageError(f"{where}: no scale {scale!r}; it has: {', '.join(scales)}")
    here = f"{where}: [scale.{scale}]"
    chosen = _checked(
        scales[scale],
        here,
        {"about": str, "tasks": list, "orders": _ANY, "seeds": list, "columns": list}
        | {"options": dict, "task": dict, "column": dict},
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
        common=_checked(chosen.get("options", {}), f"{here} options", dict.fromkeys(_OPTIONS, _ANY)),
        tasks=tasks,
        columns=_columns(document["column"], chosen, [task.name for task in tasks[1:]], where, scale),
    )


def _tasks(scale: Table, where: str) -> tuple[Task, ...]:
    names = _names(scale["tasks"], scale["task"], f"{where} tasks", "[task] tables")
    if len(names) < 2:
        raise UsageError(f"{where} tasks: expected the first task and one or more that are added, got {len(names)}")
    made = []
    for name in names:
        kinds = {"label": str, "data": str} | dict.fromkeys(_OPTIONS, _ANY)
        table = _checked(scale["task"][name], f"{where} task.{name}", kinds)
        options = {key: value for key, value in table.items() if key not in ("label", "data")}
        made.append(Task(name, table.get("label", name), table.get("data"), options))
    return tuple(made)


def _columns(tables: Table, scale: Table, added: Sequence[str], where: str, scale_name: str) -> tuple[Column, ...]:
    """The columns this scale asks for, what it says about each merged into what the recipe says."""
    changes = scale.get("column", {})
    _names(list(changes), tables, f"{where}: [scale.{scale_name}.column]", "columns")
    chosen = _names(scale.get("columns", list(tables)), tables, f"{where}: [scale.{scale_name}] columns", "columns")
    kinds = {"label": str, "group": str, "first": dict, "orders": _ANY, "seeds": list} | dict.fromkeys(_OPTIONS, _ANY)
    made = []
    for key in chosen:
        here = f"{where}: column.{key}"
        table = dict(_checked(tables[key], here, kinds))
        change = _checked(changes.get(key, {}), f"{where}: scale.{scale_name}.column.{key}", kinds)
        first = table.pop("first", {}) | change.get("first", {})
        table = {"orders": "given", "seeds": [0]} | {k: scale[k] for k in ("orders", "seeds") if k in scale} | table
        table |= {name: value for name, value in change.items() if name != "first"}
        made.append(
            Column(
                key=key,
                label=table.get("label", key),
                group=table.get("group", ""),
                options={name: value for name, value in table.items() if name in _OPTIONS},
                first=_checked(first, f"{here}.first", dict.fromkeys(_OPTIONS, _ANY)),
                orders=_orders(table["orders"], added, f"{here}: orders"),
                seeds=_seeds(table["seeds"], f"{here}: seeds"),
            )
        )
    return tuple(made)


def _orders(asked: Any, added: Sequence[str], where: str) -> tuple[Order, ...]:
    if asked == "given":
        return (tuple(added),)
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


def _seeds(seeds: list[Any], where: str) -> tuple[int, ...]:
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise UsageError(f"{where}: expected one or more different whole numbers, got {seeds!r}")
    return tuple(seeds)


def _names(names: list[Any], known: Sequence[str] | Table, where: str, what: str) -> list[str]:
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise UsageError(f"{where}: {name!r} is not among the {what}: {', '.join(known) or 'none'}")
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: one is listed twice")
    return names


def _checked(table: Any, where: str, kinds: Mapping[str, Any], needed: Sequence[str] = ()) -> dict[str, Any]:
    """The table, every key known and of its kind (``_ANY``: checked where it is used), the needed ones there."""
    if not isinstance(table, dict):
        raise UsageError(f"{where}: expected a table, got {table!r}")
    for key, value in table.items():
        if key not in kinds:
            raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(kinds)}")
        if kinds[key] is not _ANY and not isinstance(value, kinds[key]):
            named = {str: "a text", list: "a list", dict: "a table"}[kinds[key]]
            raise UsageError(f"{where}: {key}: expected {named}, got {value!r}")
    for key in needed:
        if key not in table:
            raise UsageError(f"{where}: {key} is missing")
    return table
