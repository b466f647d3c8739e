"""Writing TOML: the flat tables of a training recipe. Reading is the standard library's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def recipe_text(common: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]]) -> str:
    """A training recipe: top-level keys, then one ``[[task]]`` table each."""
    lines = [f"{key} = {_value(value)}" for key, value in common.items()]
    for task in tasks:
        lines += ["", "[[task]]", *(f"{key} = {_value(value)}" for key, value in task.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # a JSON string is a TOML string, but for one character that TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, int | float):
        return repr(value)  # inf and nan are TOML's words too
    raise TypeError(f"a recipe cannot hold {value!r}")
