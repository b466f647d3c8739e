"""``packnet delta extract`` and ``packnet delta apply``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.cli.coming import command_line, print_next
from packnet_deploy.cli.packs import complete_task, open_chosen, pack_option
from packnet_deploy.cli.show import console, say, say_json

if TYPE_CHECKING:
    from packnet_deploy.pack import Pack, TaskEntry

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")


@click.group(no_args_is_help=False)
def command() -> None:
    """Move one task between packs as a single file."""


@command.command()
@click.option("--task", required=True, metavar="NAME", shell_complete=complete_task, help="The task.")
@pack_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file.  [default: as in the pack]")
@json_option
def extract(task: str, pack: Path | None, output: Path | None, as_json: bool) -> None:
    """Copy a task's delta out of a pack, its hash checked."""
    from packnet_deploy.cli.show import size
    from packnet_deploy.pack import extract_delta

    opened = open_chosen(pack)
    entry = opened.task(task)
    target = output or Path(Path(entry.file).name)
    extract_delta(opened, task, target)
    if as_json:
        say_json({"file": str(target), **_json(entry)})
        return
    say(f"{target}: task {task!r}, {size(entry.bytes)}, sha256 {entry.sha256}")
    apply_it = command_line("delta apply", target.name, "--sha256", entry.sha256)
    print_next(console(), f"where the same pack lacks the task: {apply_it}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@pack_option
@click.option("--sha256", metavar="HEX", help="The hash that `delta extract` printed; another file is refused.")
@json_option
def apply(file: Path, pack: Path | None, sha256: str | None, as_json: bool) -> None:
    """Add the task in a delta FILE to a pack.

    The delta must have been made from this very pack; any other is refused with both hashes, and nothing changes. Nor
    does anything where the pack has the task already, from the same file.
    A delta on its own cannot show that its values arrived whole: give its hash, too, after a transfer.
    """
    from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
    from packnet_deploy.pack import apply_delta, file_sha256

    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256: expected 64 hexadecimal digits, as delta extract prints them, got {sha256!r}")
    if not file.exists():
        raise EnvironmentFault(
            f"{file}: expected a delta, got nothing: no such file; make it with packnet delta extract"
        )
    got = file_sha256(file)
    if sha256 is not None and got != sha256.lower():
        raise ArtefactError(f"{file}: damaged in transfer: sha256 expected {sha256.lower()}, got {got}; fetch it again")
    opened = open_chosen(pack)
    for entry in opened.tasks:
        if entry.sha256 == got:  # a device that asks twice has what it asked for
            _say_applied(opened, entry, as_json, added=False)
            return
    grown = apply_delta(opened, file)
    _say_applied(grown, grown.tasks[-1], as_json, added=True)


def _say_applied(pack: Pack, entry: TaskEntry, as_json: bool, *, added: bool) -> None:
    from packnet_deploy.cli.show import size

    if as_json:
        say_json({"pack": str(pack.path), "added": added, **_json(entry)})
        return
    if added:
        say(f"{pack.path}: task {entry.name!r} added as number {entry.index}, {size(entry.bytes)}")
    else:
        say(f"{pack.path}: task {entry.name!r} is there already, as number {entry.index}; nothing changed")
    print_next(console(), command_line("predict", entry.name, "IMAGE", pack=pack.path))


def _json(entry: TaskEntry) -> dict[str, Any]:
    return {"task": entry.name, "index": entry.index, "bytes": entry.bytes, "sha256": entry.sha256}
