"""Writing a model's buffers to disk: beside the target first, checked there, then renamed into place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packnet_deploy.export.wire import Buffer
from packnet_deploy.pack.atomic import sync_directory


def write_buffers(path: Path, buffers: Sequence[Buffer]) -> None:
    """Write and fsync a new file."""
    with open(path, "wb", buffering=0) as file:
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:  # one write call takes at most 2 GiB
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, on its file system; gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(files: Sequence[Path], folder: Path) -> None:
    """Rename ``files`` into ``folder`` in order, replacing what is there, and make the renames last."""
    for file in files:
        os.replace(file, folder / file.name)
    sync_directory(folder)
