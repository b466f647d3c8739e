"""``packnet delta extract`` and ``packnet delta apply``."""

from __future__ import annotations

from pathlib import Path

import click

from packnet_deploy.cli.packs import open_chosen, pack_option


@click.group(no_args_is_help=False)
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
@click.option("--sha256", metavar="HEX", help="The hash that `delta extract` printed; another file is refused.")
def apply(file: Path, pack: Path | None, sha256: str | None) -> None:
    """Add the task in a delta FILE to a pack.

    The delta must have been made from this very pack; any other is refused with both hashes, and nothing changes.
    A delta on its own cannot show that its values arrived whole: give its hash, too, after a transfer.
    """
    from packnet_deploy.cli.show import size
    from packnet_deploy.errors import ArtefactError
    from packnet_deploy.pack import apply_delta, file_sha256

    if sha256 is not None and (got := file_sha256(file)) != sha256.lower():
        raise ArtefactError(f"{file}: damaged in transfer: sha256 expected {sha256.lower()}, got {got}; fetch it again")
    grown = apply_delta(open_chosen(pack), file)
    entry = grown.tasks[-1]
    click.echo(f"{grown.path}: task {entry.name!r} added as number {entry.index}, {size(entry.bytes)}")
