"""Who answers images: the flags ``--pack``, ``--onnx``, ``--plan`` and ``--device``, and the predictor they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from packnet_deploy.cli.coming import command_line
from packnet_deploy.cli.packs import open_chosen, pack_option
from packnet_deploy.errors import UsageError, printable

if TYPE_CHECKING:
    from packnet_deploy.predict.predictor import Predictor

Item = TypeVar("Item")


class Answering(NamedTuple):
    """What the flags said."""

    pack: Path | None
    onnx: Path | None
    plan: Path | None
    device: str


def answering_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags; ``Answering`` takes their values."""
    for decorate in (
        click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or cuda:N. A plan: the GPU."),
        click.option(
            "--plan", type=click.Path(path_type=Path), help="A TensorRT plan answers, with the pack's weights."
        ),
        click.option("--onnx", type=click.Path(path_type=Path), help="An export answers, or a folder of exports."),
        pack_option,
    ):
        function = decorate(function)
    return function


def answering_line(given: Answering, command: str, *arguments: str) -> str:
    """A command line that asks the same pack, export or plan."""
    said = (("--onnx", given.onnx), ("--plan", given.plan), ("--pack", given.pack))
    flags = [text for flag, path in said if path is not None for text in (flag, str(path))]
    return command_line(command, *arguments, *flags)


def open_answering(given: Answering, tasks: Sequence[str] | None) -> Predictor:
    """The predictor that the flags name, for ``tasks``; for all it knows where None.

    Raises:
        UsageError: flags that exclude each other.
        PackNetError: as ``load`` raises it.
    """
    from packnet_deploy.predict.opening import load

    if given.onnx is not None:
        if given.pack is not None or given.plan is not None:
            raise UsageError("--onnx: exports answer by themselves; leave out --pack and --plan")
        return load(given.onnx, tasks=tasks, device=given.device)
    pack = open_chosen(given.pack).path
    if given.plan is not None:
        return load(given.plan, pack=pack, tasks=tasks, device=given.device)
    return load(pack, tasks=tasks, device=given.device)


def tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """``items``, and while they are taken a bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    yield from track(
        items, printable(what), total, console=screen, transient=True, disable=not screen.is_terminal or total < 2
    )
