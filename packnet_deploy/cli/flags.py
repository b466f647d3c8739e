"""Command-line flags from a command's options dataclass: names, defaults, types and help stand there, once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class GroupedOption(click.Option):
    """A flag that stands under a heading of its own in the help."""

    def __init__(self, *arguments: Any, heading: str = "Options", **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose help lists its flags under their headings, and those without one last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def flags_of(
    options: type,
    headings: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    paths: Collection[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds one flag for each field of ``options``; fields carry their help in ``metadata``.

    Args:
        headings: by field, where it stands in the help of a ``GroupedCommand``.
        choices: by field, the values that a shell completes; ``options`` itself refuses others.
        paths: fields whose texts may be paths, which a shell completes too.
    """
    completions = {name: _completing(values, name in paths) for name, values in (choices or {}).items()}
    completions = dict.fromkeys(paths, complete_path) | completions

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(options)
        for item in reversed(fields(options)):
            kind, several = _one_of(hints[item.name])
            flag, text = "--" + item.name.replace("_", "-"), item.metadata["help"]
            placed: dict[str, Any] = {"cls": GroupedOption, "heading": (headings or {}).get(item.name, "Options")}
            if item.name in completions:
                placed["shell_complete"] = completions[item.name]
            if several:
                flag, note = flag.removesuffix("s"), ", ".join(map(str, item.default or ()))
                text = f"{text}; may be repeated" + (f"  [default: {note}]" if note else "")
                decorator = click.option(flag, item.name, type=kind, multiple=True, help=text, **placed)
            elif kind is bool:
                decorator = click.option(
                    f"{flag}/--no{flag[1:]}", default=item.default, show_default=True, help=text, **placed
                )
            else:
                shown = item.default not in (None, "")
                if kind is Path:
                    kind = click.Path(path_type=Path)
                decorator = click.option(
                    flag, item.name, type=kind, default=item.default, show_default=shown, help=text, **placed
                )
            function = decorator(function)
        return function

    return decorate


def complete_path(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """For the shell: leaves it to complete the name of a file or folder."""
    return [CompletionItem(begun, type="file")]


def _completing(values: Sequence[str], or_path: bool) -> Completion:
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        names = [CompletionItem(value) for value in values if value.startswith(begun)]
        return names + (complete_path(context, parameter, begun) if or_path else [])

    return complete


def _one_of(annotation: Any) -> tuple[Any, bool]:
    """The type of one value of an option, and whether it takes several: int and yes, of ``tuple[int, ...] | None``."""
    if get_origin(annotation) is UnionType:
        (annotation,) = (kind for kind in get_args(annotation) if kind is not NoneType)
    several = get_origin(annotation) is tuple
    return get_args(annotation)[0] if several else annotation, several


def given(context: click.Context, options: type) -> dict[str, Any]:
    """The fields that the user set on the command line; ``options`` takes them as they are."""
    names = (item.name for item in fields(options))
    return {n: context.params[n] for n in names if context.get_parameter_source(n) is ParameterSource.COMMANDLINE}
