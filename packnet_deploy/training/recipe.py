"""Recipes: the tasks of a pack as TOML.

Top-level keys set options for every task, each ``[[task]]`` table sets or overrides them for one. The keys are the
fields of :class:`~packnet_deploy.training.options.TrainOptions`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.training.options import TrainOptions

QUICKSTART_RECIPE = Path(__file__).parent / "recipes" / "quickstart.toml"


@dataclass(frozen=True)
class Kind:
    """What a key of a table may hold: a type, and how a message calls it."""

    annotation: Any
    words: str


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
    kinds = _kinds()
    common = checked(common, where, kinds)
    chosen: list[TrainOptions] = []
    for number, table in enumerate(tables, start=1):
        here = f"{where}: [[task]] {number}"
        named = {"task" if key == "name" else key: value for key, value in table.items()}
        values = checked(named, here, kinds)
        if not values.get("task"):
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
    return replace(TrainOptions(), **checked(document, where, _kinds()))


def checked(table: Any, where: str, kinds: Mapping[str, Kind], needed: Sequence[str] = ()) -> dict[str, Any]:
    """What a table of TOML or JSON holds, each value as its key's kind has it: lists as tuples, say, where they are.

    Raises:
        UsageError: it is no table, a key is unknown or not of its kind, or one of the ``needed`` is missing.
    """
    import msgspec  # which the flags alone can do without

    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: expected a table, got {table!r}")
    found = {}
    for key, value in table.items():
        if key not in kinds:
            raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(kinds)}")
        try:
            found[key] = msgspec.convert(value, kinds[key].annotation, dec_hook=_path)
        except msgspec.ValidationError as error:
            raise UsageError(f"{where}: {key}: expected {kinds[key].words}, got {value!r}") from error
    for key in needed:
        if key not in found:
            raise UsageError(f"{where}: {key} is missing")
    return found


def _path(kind: type, value: Any) -> Path:
    """The one type of options that neither TOML nor JSON knows."""
    if kind is not Path or not isinstance(value, str | Path):
        raise TypeError(f"expected a path, got {value!r}")
    return Path(value)


def _kinds() -> dict[str, Kind]:
    """The options' own: ``tuple[int, ...] | None`` is "a list of int", anything else is called as it is annotated."""
    hints = get_type_hints(TrainOptions)
    kinds = {}
    for field in fields(TrainOptions):
        one = str(field.type).removesuffix(" | None").removeprefix("tuple[").removesuffix(", ...]")
        words = f"a list of {one}" if "tuple[" in str(field.type) else str(field.type)
        kinds[field.name] = Kind(hints[field.name], words)
    return kinds
