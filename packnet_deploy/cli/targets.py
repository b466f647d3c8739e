"""Files that a command is to write, looked at before it begins: that they can be written, and that they may."""

from __future__ import annotations

from pathlib import Path

from packnet_deploy.errors import EnvironmentFault, UsageError


def expect_folder_of(path: Path | None) -> None:
    """That a file can be written once its content has been found out; None is no file.

    Raises:
        EnvironmentFault: its folder does not exist, or it is a folder itself.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise EnvironmentFault(f"{path.parent}: expected a folder to write {path.name} to, got none; make it first")
    if path.is_dir():
        raise EnvironmentFault(f"{path}: expected the name of a file to write, got a folder; say {path / 'NAME'}")


def expect_own_export(path: Path, force: bool) -> None:
    """That an export takes the place of nothing that ``packnet export`` did not write itself.

    Raises:
        UsageError: something else is there, and ``force`` does not say to replace it.
    """
    from packnet_deploy.errors import PackNetError
    from packnet_deploy.export.metadata import PRODUCER
    from packnet_deploy.runners.exported import read_model

    if force or not path.is_file():
        return
    try:
        ours = read_model(path).producer_name == PRODUCER
    except PackNetError:
        ours = False
    if not ours:
        raise UsageError(f"{path}: a file that packnet export did not write is there; --force replaces it")
