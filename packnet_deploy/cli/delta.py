"""``packnet delta extract`` and ``packnet delta apply``."""

from __future__ import annotations

from pathlib import Path

import click

from packnet_deploy.cli.packs import open_chosen, pack_option


@click.group()
def command() -> None:
    """Move one task between packs as a single file."""


@command.command()
@click.option("--task", required=True, metavar="NAME", help="The task.")
@pack_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file.  [default: as in the pack]")
def extract(task: str, pack: Path | None, output: Path | None) -> None:
    """Copy a task's delta out of a pack, its hash checked."""
    from packnet_deploy.cli.show import size
    from packnet_deploy.pack import extract_delta

    opened = open_chosen(pack)
    entry = opened.task(task)
    target = output or Path(Path(entry.file).name)
    extract_delta(opened, task, target)
    click.echo(f"{target}: task {task!r}, {size(entry.bytes)}, sha256 {entry.sha256}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@pack_option
def apply(file: Path, pack: Path | None) -> None:
    """Add the task in a delta FILE to a pack.

    The delta must have been made from this very pack; any other is refused with both hashes, and nothing changes.
    """
    from packnet_deploy.cli.show import size
    from packnet_deploy.pack import apply_delta

    grown = apply_delta(open_chosen(pack), file)
    entry = grown.tasks[-1]
    click.echo(f"{grown.path}: task {entry.name!r} added as number {entry.index}, {size(entry.bytes)}")
