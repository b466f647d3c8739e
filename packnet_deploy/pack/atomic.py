"""Writing so that a crash at any byte leaves the old state or the new one: sibling temp file, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack.reading import directory_of

TEMP_PREFIX = ".tmp-"


@contextlib.contextmanager
def replacing(path: Path, inside: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write; when the block ends well it takes the place of ``path`` and its mode, else it is gone.

    Its name cannot be told and it must be new, so nothing that was planted is written through. Those that killed
    processes have left for this ``path`` go first: each is locked for as long as its process lives.

    Args:
        inside: from this folder on, no part of the way to ``path`` may be a link (``reading.directory_of``).
    """
    with directory_of(path, inside) as directory:
        _sweep_files(path.name, directory)
        temp, handle = _new_and_locked(path, directory)
        try:
            with open(temp, "wb", opener=lambda *_: handle) as file:
                if (mode := _mode_of(path.name, directory)) is not None:
                    os.fchmod(file.fileno(), mode)
                with naming(path):
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temp.name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp.name, dir_fd=directory)
            raise
        os.fsync(directory)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """What the system refuses inside is refused of ``path``, if it names no file itself: a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(_in_place(path))
        raise


def expect_room(path: Path, count: int) -> None:
    """That the disk has room for a file, as far as can be told before it is written.

    Raises:
        EnvironmentFault: it has less than ``count`` bytes.
    """
    place = _in_place(path)
    if (free := shutil.disk_usage(place.parent).free) < count:
        raise EnvironmentFault(
            f"{place}: expected room for {count:,} bytes on the disk of folder {place.parent.absolute()}, "
            f"got {free:,}; free some, or write elsewhere"
        )


def _in_place(path: Path) -> Path:
    """Where a file of a staging folder will be in the end."""
    return path.parent.with_name(path.name) if path.parent.name.startswith(TEMP_PREFIX) else path


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, on its file system; gone afterwards, whatever happens.

    Those that killed processes have left for this target go first. Each is locked for as long as its process lives, so
    one that can be locked is nobody's.
    """
    for leftover in target.parent.iterdir():
        if _is_temporary_of(target.name, leftover.name):
            _sweep(leftover)
    with contextlib.ExitStack() as held:
        folder = _made_and_locked(target, held)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _made_and_locked(target: Path, held: contextlib.ExitStack) -> Path:
    while True:
        folder = target.with_name(_temporary_name(target))
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError, EnvironmentFault):  # another swept it before it was locked
            held.enter_context(locked(folder))
            if folder.exists():
                return folder


def _sweep(leftover: Path) -> None:
    with contextlib.suppress(OSError, EnvironmentFault):  # a link, or another process's
        if not leftover.is_symlink():
            with locked(leftover):
                shutil.rmtree(leftover, ignore_errors=True)


def _new_and_locked(path: Path, directory: int) -> tuple[Path, int]:
    while True:
        temp = path.with_name(_temporary_name(path))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(temp.name, flags, 0o666, dir_fd=directory)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return temp, handle
        os.close(handle)  # another took it for a leftover before it was locked


def _sweep_files(name: str, directory: int) -> None:
    for leftover in os.listdir(directory):
        if _is_temporary_of(name, leftover):
            with contextlib.suppress(OSError):  # a link, or swept by another
                handle = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
                try:
                    if _lock(handle):
                        os.unlink(leftover, dir_fd=directory)
                finally:
                    os.close(handle)


def _lock(handle: int, wait: bool = False) -> bool:
    """Whether the lock is ours now; the kernel drops it with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # another's, or a file system without locks
        return False
    return True


def _is_temporary_of(target: str, name: str) -> bool:
    return re.fullmatch(re.escape(f"{TEMP_PREFIX}{target}-") + r"[0-9a-f]{16}", name) is not None


def _temporary_name(path: Path) -> str:
    return f"{TEMP_PREFIX}{path.name}-{token_hex(8)}"


def _mode_of(name: str, directory: int) -> int | None:
    """The mode of the regular file that is to be replaced; None where there is none."""
    try:
        mode = os.lstat(name, dir_fd=directory).st_mode
    except FileNotFoundError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else None


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable. Windows cannot open directories and needs no such call."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(directory: Path) -> None:
    """Delete what writers killed half-way left in ``directory``. Call it under the lock only."""
    for leftover in directory.glob(f"{TEMP_PREFIX}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel drops it with the process, so a crash leaves none behind."""
    try:
        import fcntl
    except ImportError:  # Windows: one writer at a time is the user's care
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentFault(f"{path}: another process is writing to it; wait for it and retry") from error
        yield
    finally:
        os.close(handle)
