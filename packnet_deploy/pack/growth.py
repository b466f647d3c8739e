"""Making a pack and adding tasks to it: one new file, then pack.json replaced. No existing byte changes.

A writer killed at any byte leaves the pack as it was before, or as it is after: the delta is complete and synced
before pack.json names it, and pack.json changes by rename. Writers take a lock on the directory; readers need none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.pack.atomic import expect_room, locked, remove_leftovers, replacing, staging_folder, sync_directory
from packnet_deploy.pack.bank import WeightBank
from packnet_deploy.pack.chain import check_pattern, check_place, file_sha256
from packnet_deploy.pack.decode import claim_in_place
from packnet_deploy.pack.delta import DeltaHeader, NewTask, check_delta, write_delta
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    Backbone,
    Manifest,
    ParamSpec,
    TaskEntry,
    check_task_name,
)
from packnet_deploy.pack.owners import FREE, MAX_TASKS, OwnerMap
from packnet_deploy.pack.reading import directory_of, open_regular
from packnet_deploy.pack.tensorfile import TensorFile


def create_pack(
    path: str | os.PathLike[str],
    backbone: Backbone,
    spec: InputSpec,
    graph: bytes,
    packable: Sequence[ParamSpec],
    first: NewTask | None = None,
) -> Pack:
    """Make a new pack, with its first task if given; it appears whole or not at all.

    Args:
        graph: the weight-free ONNX graph, serialised.
        packable: in ``named_parameters()`` order, tied ones once.

    Raises:
        UsageError: something exists at ``path`` already.
        ArtefactError: no reader would accept such a pack (a parameter listed twice, say); nothing is made.
    """
    target = Path(path)
    if target.exists():
        raise UsageError(f"{target}: exists already; choose another path, or add tasks to it")
    manifest = Manifest(backbone, spec, hashlib.sha256(graph).hexdigest(), tuple(packable))
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(target) as outer:
        folder = outer / target.name
        (folder / "deltas").mkdir(parents=True)
        for name, data in ((GRAPH_FILE, graph), (MANIFEST_FILE, manifest.to_bytes())):
            with replacing(folder / name) as file:
                file.write(data)
        empty = Pack.open(folder)  # reads it back: what a reader refuses must not be left behind
        if first is not None:
            append_task(empty, first)
        os.rename(folder, target)
    sync_directory(target.parent)
    return Pack.open(target)


@contextlib.contextmanager
def reserved(pack: Pack) -> Iterator[None]:
    """Keep a pack as it is until a task is ready for it: whoever would grow it meanwhile is told so at once.

    Raises:
        EnvironmentFault: another process is writing to it, or has grown it since it was opened.
    """
    with locked(pack.path):
        _expect_unchanged(pack)
        yield


def append_task(pack: Pack, task: NewTask, *, is_reserved: bool = False) -> Pack:
    """Add a trained task; returns the grown pack.

    The bank on disk is read again and held against what the trainer says: the same owners for every earlier task
    and the same ``frozen_sha256``, so a drifted weight can never enter a pack.

    Args:
        is_reserved: it is called inside ``reserved``.

    Raises:
        UsageError: the name is taken or unusable, or the pack holds MAX_TASKS tasks.
        CheckFailed: an earlier task's owners or weights changed during training.
        EnvironmentFault: another process is writing, or has grown the pack since it was opened.
        ArtefactError: no reader would accept the delta (a head of another shape than task 1's, say).
    """
    check_task_name(task.name)
    if any(entry.name == task.name for entry in pack.tasks):
        raise UsageError(f"{pack.path}: task {task.name!r} is in it already; choose another name")
    if len(pack.tasks) >= MAX_TASKS:
        raise UsageError(f"{pack.path}: it holds {MAX_TASKS} tasks, the most a pack can")
    index = len(pack.tasks) + 1
    bank = pack.bank()
    for name, owner in bank.owners.items():
        if not np.array_equal(np.where(task.owners[name] >= index, 0, task.owners[name]), owner):
            raise CheckFailed(f"{pack.path}: parameter {name!r}: owners of tasks before {task.name!r} changed")
    if (frozen := bank.sha256(index - 1)) != task.frozen_sha256:
        raise CheckFailed(
            f"{pack.path}: training {task.name!r} changed a frozen weight: frozen_sha256 expected {frozen}, "
            f"got {task.frozen_sha256}; the pack is left as it was"
        )
    before = _Before([int(np.count_nonzero(owner == FREE)) for owner in bank.owners.values()], _patterned(pack, bank))
    del bank
    with contextlib.nullcontext() if is_reserved else reserved(pack):
        return _grow(pack, task.name, before, lambda file: write_delta(file, task, pack.manifest))


def apply_delta(pack: Pack, source: Path) -> Pack:
    """Add the task in a delta file made from this very pack elsewhere; returns the grown pack.

    Raises:
        ArtefactError: damaged, or made for another pack or another state of it; nothing on disk changes.
    """
    with TensorFile(source) as file:
        header = DeltaHeader.of(file)
        if any(entry.name == header.task for entry in pack.tasks):
            raise ArtefactError(f"{source}: task {header.task!r} is in {pack.path} already")
        check_place(file, header, pack.manifest, len(pack.tasks))
        with pack.opened() as opened:
            free = [layer.size - sum(layer.owned) for layer in opened.capacity()]
            check_delta(file, header, pack.packable, free, opened.chain.files[0] if pack.tasks else file)
            patterned = any(param.pattern for param in pack.packable)
            before = _Before(free, _patterned(pack, opened.bank()) if patterned else {})

    def copy(target: BinaryIO) -> None:
        with open_regular(source) as original:
            expect_room(pack.path / source.name, original.size)
            shutil.copyfileobj(original, target, 1 << 20)

    with reserved(pack):
        return _grow(pack, header.task, before, copy)


def extract_delta(pack: Pack, task: str, target: Path) -> None:
    """Copy one task's delta out of a pack, its hash checked.

    Raises:
        UsageError: no such task, or ``target`` exists.
        ArtefactError: the delta in the pack is damaged.
        EnvironmentFault: there is no room for it.
    """
    entry = pack.task(task)
    if target.exists():
        raise UsageError(f"{target}: exists already; choose another file")
    expect_room(target, entry.bytes)
    with open_regular(pack.file(entry), inside=pack.path) as original, replacing(target) as out:
        shutil.copyfileobj(original, out, 1 << 20)
        out.flush()
        if (got := file_sha256(Path(out.name))) != entry.sha256:
            raise ArtefactError(f"{pack.file(entry)}: damaged: sha256 expected {entry.sha256}, got {got}")


class _Before(NamedTuple):
    """What the tasks of a pack leave to the next one.

    Attributes:
        free: how many weights, for every packable parameter.
        owners: the owner maps of those that are promised to keep to a pattern, by name.
    """

    free: Sequence[int]
    owners: Mapping[str, OwnerMap]


def _patterned(pack: Pack, bank: WeightBank) -> dict[str, OwnerMap]:
    return {param.name: bank.owners[param.name].copy() for param in pack.packable if param.pattern}


def _grow(pack: Pack, name: str, before: _Before, write: Callable[[BinaryIO], None]) -> Pack:
    """Add the delta that ``write`` writes. What lands in the temporary file is checked as a reader would check it.

    So nothing that no reader accepts is ever named by pack.json, and a source that changes while it is copied
    cannot slip past the checks made before. Only inside ``reserved``.
    """
    deltas = pack.path / "deltas"
    deltas.mkdir(exist_ok=True)
    with directory_of(deltas / MANIFEST_FILE, inside=pack.path):  # which no link may lead out of the pack
        remove_leftovers(pack.path)
        remove_leftovers(deltas)
    entry = TaskEntry(name, len(pack.tasks) + 1, classes=0, sha256="", bytes=0)
    target = pack.path / entry.file
    is_new = not target.exists()
    try:
        with replacing(target, inside=pack.path) as file:
            write(file)
            file.flush()
            classes = _check_written(Path(file.name), pack, name, before)
        sha256 = file_sha256(target, inside=pack.path)
        entry = replace(entry, classes=classes, sha256=sha256, bytes=target.stat().st_size)
        manifest = pack.manifest.with_task(entry)
        with replacing(pack.path / MANIFEST_FILE, inside=pack.path) as file:
            file.write(manifest.to_bytes())
    except BaseException:
        # The last step may fail after its rename; then pack.json names the delta, which has to stay.
        if is_new and Manifest.read(pack.path / MANIFEST_FILE) == pack.manifest:
            target.unlink(missing_ok=True)
        raise
    return Pack(pack.path, manifest)


def _expect_unchanged(pack: Pack) -> None:
    if Manifest.read(pack.path / MANIFEST_FILE) != pack.manifest:
        raise EnvironmentFault(f"{pack.path}: another process changed it since it was opened; open it again and retry")


def _check_written(path: Path, pack: Pack, name: str, before: _Before) -> int:
    """Hold the delta at ``path`` to everything a reader of the grown pack will hold it to; returns its class count."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(TensorFile(path, inside=pack.path))
        first = stack.enter_context(TensorFile(pack.file(pack.tasks[0]), inside=pack.path)) if pack.tasks else file
        header = DeltaHeader.of(file)
        check_place(file, header, pack.manifest, len(pack.tasks))
        check_delta(file, header, pack.packable, before.free, first)
        for param in pack.packable:
            if param.pattern:
                claim_in_place(param, file, before.owners[param.name], header.index)
                check_pattern(path, param, before.owners[param.name])
        if header.task != name:
            raise ArtefactError(
                f"{path}: expected task {name!r}, got {header.task!r}; the file changed while it was read"
            )
        return len(header.classes)
