"""Which pack a command means when ``--pack`` is left out: the only one in the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from packnet_deploy.errors import UsageError

if TYPE_CHECKING:
    from packnet_deploy.pack import Pack

NEW_PACK = Path("packnet.pack")

pack_option = click.option(
    "--pack", "pack", type=click.Path(path_type=Path), help="The pack.  [default: the only *.pack in this folder]"
)


def complete_task(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """For the shell: the tasks of the pack that the line names, or of the only one here, that begin so."""
    from packnet_deploy.errors import PackNetError

    try:
        return [entry.name for entry in open_chosen(context.params.get("pack")).tasks if entry.name.startswith(begun)]
    except PackNetError:  # whoever is still typing is not told what is wrong
        return []


def open_chosen(chosen: Path | None) -> Pack:
    """Open the pack given, or the only one here."""
    from packnet_deploy.pack import Pack

    path = chosen or _only_one_here()
    if path is None:
        raise UsageError("--pack: expected a pack, there is no *.pack in this folder; give its path")
    return Pack.open(path)


def is_only_one_here(pack: Path) -> bool:
    """Whether commands take ``pack`` where ``--pack`` is left out."""
    return [path.resolve() for path in _packs_here()] == [pack.resolve()]


def path_to_grow(chosen: Path | None) -> Path:
    """Where training puts a task: the path given, the only pack here, or a new one."""
    return chosen or _only_one_here() or NEW_PACK


def path_to_resume(chosen: Path | None) -> Path:
    """The pack that an interrupted training was to make or to grow: the path given, or the only one here.

    Raises:
        UsageError: there is none, or several.
    """
    if chosen is not None:
        return chosen
    found = sorted(path.parent for path in Path().glob("*.train/tasks.json"))
    if len(found) != 1:
        what = f"several ({', '.join(map(str, found))}); name one by --pack" if found else "none in this folder"
        raise UsageError(f"--resume: expected one *.train/ folder to go on with, got {what}")
    return found[0].with_suffix(".pack")


def chosen_tasks(pack: Pack, names: tuple[str, ...], all_tasks: bool) -> list[str]:
    """The tasks a command is asked for, each known to the pack.

    Raises:
        UsageError: neither or both were given, or a task is unknown.
    """
    if bool(names) == all_tasks:
        known = ", ".join(entry.name for entry in pack.tasks)
        raise UsageError(f"expected either --task NAME or --all-tasks; tasks of {pack.path}: {known}")
    return [entry.name for entry in pack.tasks] if all_tasks else [pack.task(name).name for name in names]


def _only_one_here() -> Path | None:
    found = _packs_here()
    if len(found) > 1:
        raise UsageError(f"--pack: several packs are in this folder ({', '.join(map(str, found))}); name one")
    return found[0] if found else None


def _packs_here() -> list[Path]:
    return sorted(path for path in Path().glob("*.pack") if path.is_dir())
