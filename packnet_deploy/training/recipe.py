"""Recipes: the tasks of a pack as TOML.

Top-level keys set options for every task, each ``[[task]]`` table sets or overrides them for one. The keys are the
fields of :class:`~packnet_deploy.training.options.TrainOptions`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.training.options import TrainOptions

QUICKSTART_RECIPE = Path(__file__).parent / "recipes" / "quickstart.toml"
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Path": (str, Path),
}


def read_toml(path: Path, what: str = "recipe") -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        EnvironmentFault: the file cannot be read.
        ArtefactError: it is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise EnvironmentFault(f"{path}: the {what} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: not a {what}, TOML says: {error}") from error


def read_recipe(path: Path, **overrides: Any) -> list[TrainOptions]:
    """The tasks of a recipe, in order; ``overrides`` win over what it says.

    ``weights``, ``pattern`` and ``reference`` are the first task's alone.

    Raises:
        EnvironmentFault: the file cannot be read.
        ArtefactError: it is not TOML.
        UsageError: it names an unknown key, gives a wrong type, has no task, or two of one name.
    """
    return tasks_from(read_toml(path), str(path), **overrides)


def tasks_from(document: Mapping[str, Any], where: str, **overrides: Any) -> list[TrainOptions]:
    """The tasks of a recipe that has been parsed already; raises as ``read_recipe`` does."""
    from packnet_deploy.pack.manifest import is_task_name  # numpy, which the flags alone can do without

    common = {key: value for key, value in document.items() if key != "task"}
    tables = document.get("task", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{where}: expected one [[task]] table for each task, got none")
    common = _checked(common, where)
    chosen: list[TrainOptions] = []
    for number, table in enumerate(tables, start=1):
        here = f"{where}: [[task]] {number}"
        values = _checked({"task": table.get("name"), **{k: v for k, v in table.items() if k != "name"}}, here)
        if not values["task"]:
            raise UsageError(f"{here}: it has no name")
        if not is_task_name(values["task"]) or any(values["task"] == other.task for other in chosen):
            raise UsageError(
                f"{here}: name: expected one of its own, 1 to 64 letters, digits, '.', '_' or '-', "
                f"got {values['task']!r}"
            )
        try:
            chosen.append(TrainOptions(**(common | values | overrides)))
        except UsageError as error:
            raise UsageError(f"{here}: {error}") from error
        for key in ("weights", "pattern", "reference"):  # the first task's; the pack has its own from then on
            common.pop(key, None)
            overrides.pop(key, None)
    if len({task.method for task in chosen}) > 1:
        raise UsageError(f"{where}: method: expected one for all tasks, got several")
    return chosen


def to_json(options: TrainOptions) -> dict[str, Any]:
    """The fields as JSON values; ``from_json`` turns them back."""
    document = {f.name: getattr(options, f.name) for f in fields(options)}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in document.items()
    }


def from_json(document: Mapping[str, Any], where: str) -> TrainOptions:
    """Options that ``to_json`` wrote.

    Raises:
        UsageError: an unknown key or a wrong type.
    """
    return replace(TrainOptions(), **_checked(document, where))


def _checked(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The table's values, each known and of its field's type."""
    known = {f.name: str(f.type) for f in fields(TrainOptions)}
    checked = {}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(known)}")
        kind = known[key].removesuffix(" | None")
        one = kind.removeprefix("tuple[").removesuffix(", ...]")
        several = kind != one and isinstance(value, list | tuple)
        fits = value is None or ((kind == one or several) and all(_is(v, one) for v in (value if several else [value])))
        if not fits:
            expected = known[key] if kind == one else f"a list of {one}"
            raise UsageError(f"{where}: {key}: expected {expected}, got {value!r}")
        checked[key] = tuple(value) if several else Path(value) if kind == "Path" and value is not None else value
    return checked


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
