"""A pack on disk, opened for reading. Listing it reads pack.json only; every delta used is hashed first.

Writing is in growth.py. A :class:`Pack` is a snapshot: growing the directory gives a new one, and never changes
a file that an older snapshot names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack.bank import WeightBank
from packnet_deploy.pack.decode import decode_param
from packnet_deploy.pack.delta import DeltaHeader, check_delta
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import GRAPH_FILE, MANIFEST_FILE, Backbone, Manifest, ParamSpec, TaskEntry
from packnet_deploy.pack.owners import FREE, LayerCapacity, OwnerMap
from packnet_deploy.pack.pattern import GROUP, KEPT, obeys
from packnet_deploy.pack.reading import open_regular
from packnet_deploy.pack.tensorfile import TensorFile

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class TaskWeights:
    """Everything one task runs on, as fresh arrays the caller may change.

    Attributes:
        tensors: float32, by the name of the graph's input: packable weights materialised (zeros where the task
            owns nothing), the other parameters and buffers, ``head.weight`` and ``head.bias``.
        probe_logits: float32 ``[PROBE_IMAGES, classes]``.
        input: how the task's images become the input; its own description, or the pack's.
    """

    tensors: dict[str, npt.NDArray[np.float32]]
    classes: tuple[str, ...]
    probe_logits: npt.NDArray[np.float32]
    input: InputSpec


@dataclass(frozen=True)
class Pack:
    """One pack directory, as its pack.json was when it was opened."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Pack:
        """Open a pack; reads pack.json and nothing else.

        Raises:
            ArtefactError: ``path`` is not a pack, or its pack.json is damaged.
        """
        return cls(Path(path), Manifest.read(Path(path) / MANIFEST_FILE))

    @property
    def backbone(self) -> Backbone:
        return self.manifest.backbone

    @property
    def input(self) -> InputSpec:
        """The network's input, and how images become it for every task that does not say otherwise."""
        return self.manifest.input

    @property
    def packable(self) -> tuple[ParamSpec, ...]:
        return self.manifest.packable

    @property
    def tasks(self) -> tuple[TaskEntry, ...]:
        return self.manifest.tasks

    def task(self, name: str) -> TaskEntry:
        """The entry of one task.

        Raises:
            UsageError: the pack has no such task; lists those it has.
        """
        for entry in self.tasks:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.tasks) or "none yet"
        raise UsageError(f"{self.path}: no task {name!r}; its tasks: {known}")

    def file(self, entry: TaskEntry) -> Path:
        return self.path / entry.file

    def graph_bytes(self) -> bytes:
        """The weight-free graph, its hash checked."""
        path = self.path / GRAPH_FILE
        with open_regular(path, missing=f"{path}: no such file; the pack is incomplete") as file:
            data = file.readall()
        _check_hash(path, self.manifest.graph_sha256, hashlib.sha256(data).hexdigest())
        return data

    @contextlib.contextmanager
    def chain(self, through: int) -> Iterator[list[tuple[TensorFile, DeltaHeader]]]:
        """The deltas of tasks 1..through, open, hashed, and checked against each other and the manifest.

        Raises:
            ArtefactError: a file is missing, its hash differs, or its content does not fit.
        """
        if not 0 <= through <= len(self.tasks):
            raise ValueError(f"task index: expected 0..{len(self.tasks)}, got {through}")
        entries = self.tasks[:through]
        paths = [self.file(entry) for entry in entries]
        with ThreadPoolExecutor() as pool:  # hashing releases the GIL
            for path, entry, got in zip(paths, entries, pool.map(file_sha256, paths), strict=True):
                _check_hash(path, entry.sha256, got)
                if (size := path.stat().st_size) != entry.bytes:
                    raise ArtefactError(f"{path}: {MANIFEST_FILE} says {entry.bytes:,} bytes, but it has {size:,}")
        with contextlib.ExitStack() as stack:
            files: list[tuple[TensorFile, DeltaHeader]] = []
            free = [param.size for param in self.packable]
            for position, (path, entry) in enumerate(zip(paths, entries, strict=True)):
                file = stack.enter_context(TensorFile(path))
                header = DeltaHeader.of(file)
                check_place(file, header, self.manifest, position)
                if (header.task, len(header.classes)) != (entry.name, entry.classes):
                    raise ArtefactError(
                        f"{path}: expected task {entry.name!r} with {entry.classes} classes as in {MANIFEST_FILE}, "
                        f"got {header.task!r} with {len(header.classes)}"
                    )
                owned = check_delta(file, header, self.packable, free, files[0][0] if files else file)
                free = [f - o for f, o in zip(free, owned, strict=True)]
                files.append((file, header))
            yield files

    def header(self, name: str) -> DeltaHeader:
        """What one task's delta says about itself; the file is hashed first."""
        entry = self.task(name)
        _check_hash(self.file(entry), entry.sha256, file_sha256(self.file(entry)))
        with TensorFile(self.file(entry)) as file:
            header = DeltaHeader.of(file)
            _check_own_input(file, header, self.manifest)
            return header

    def task_input(self, name: str) -> InputSpec:
        """How one task's images become its input; its delta is hashed first."""
        return self.header(name).input or self.input

    def capacity(self) -> tuple[LayerCapacity, ...]:
        """Who owns how much of every packable parameter; hashes and checks every delta, decodes none."""
        with self.chain(len(self.tasks)) as chain:
            files = [file for file, _ in chain]
            return tuple(
                LayerCapacity(p.name, p.size, tuple(f.entries[f"values/{p.name}"].size for f in files), p.pattern)
                for p in self.packable
            )

    def load_task(self, name: str) -> TaskWeights:
        """Materialise one task from the deltas before it and its own. Memory: one dense copy and small blocks."""
        entry = self.task(name)
        with self.chain(entry.index) as chain:
            files = [file for file, _ in chain]
            tensors = {param.name: _empty(param, np.float32) for param in self.packable}
            for param in self.packable:
                decode_param(param, files, tensors[param.name])
            tensors |= _group(files[0], "shared")
            tensors |= _group(files[-1], "own")
            tensors |= {f"head.{key}": value for key, value in _group(files[-1], "head").items()}
            header = chain[-1][1]
            probe_logits = files[-1].read("probe/logits")
            return TaskWeights(tensors, header.classes, probe_logits, header.input or self.input)

    def bank(self, through: int | None = None) -> WeightBank:
        """The weight bank of tasks 1..through (all by default).

        Raises:
            ArtefactError: a delta is damaged, or the owners break a pattern that pack.json promises.
        """
        through = len(self.tasks) if through is None else through
        with self.chain(through) as chain:
            files = [file for file, _ in chain]
            values = {param.name: _empty(param, np.float32) for param in self.packable}
            owners: dict[str, OwnerMap] = {param.name: _empty(param, np.uint8) for param in self.packable}
            for param in self.packable:
                decode_param(param, files, values[param.name], owners[param.name])
                check_pattern(self.path, param, owners[param.name])
            shared = _group(files[0], "shared") if files else {}
        return WeightBank(self.packable, through, values, owners, shared)


def check_place(file: TensorFile, header: DeltaHeader, manifest: Manifest, position: int) -> None:
    """Check that a delta belongs behind the first ``position`` deltas of the pack that ``manifest`` describes.

    Raises:
        ArtefactError: another backbone, input, index or parent; both values are named.
    """
    parent = manifest.tasks[position - 1].sha256 if position else ""
    for what, expected, got in (
        ("graph_sha256 (the backbone)", manifest.graph_sha256, header.graph_sha256),
        ("input_sha256 (image size and normalisation)", manifest.input.sha256, header.input_sha256),
        ("task index", str(position + 1), str(header.index)),
        ("parent", parent, header.parent),
    ):
        if expected != got:
            raise ArtefactError(
                f"{file.path}: {what}: this pack has {expected or 'none'!r}, the delta was made for {got or 'none'!r}; "
                "use a delta made from this very pack"
            )
    _check_own_input(file, header, manifest)


def _check_own_input(file: TensorFile, header: DeltaHeader, manifest: Manifest) -> None:
    """Check that a task's own input description is of the network's shape, and differs from the pack's."""
    own, packs = header.input, manifest.input
    if own is not None and own.shape != packs.shape:
        raise ArtefactError(
            f"{file.path}: input shape: expected {list(packs.shape)}, the network's, got {list(own.shape)}; "
            "use a delta made from this very pack"
        )
    if own is not None and own.sha256 == packs.sha256:
        raise ArtefactError(f"{file.path}: input: it is the pack's, so it must be left out")


def check_pattern(where: Path, param: ParamSpec, owner: OwnerMap) -> None:
    """Check that a parameter's owned weights, all tasks taken together, keep to the pattern that pack.json gives it.

    Raises:
        ArtefactError: they do not.
    """
    if param.pattern and not obeys(owner != FREE):
        raise ArtefactError(
            f"{where}: parameter {param.name!r}: {MANIFEST_FILE} promises {param.pattern}, but more than {KEPT} of "
            f"{GROUP} weights would have an owner; use a pack and deltas as they were trained"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        ArtefactError: there is no such file.
    """
    digest = hashlib.sha256()
    with open_regular(path, missing=f"{path}: no such file; the pack is incomplete") as file:
        buffer = bytearray(_READ_BYTES)
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _check_hash(path: Path, expected: str, got: str) -> None:
    if expected != got:
        raise ArtefactError(
            f"{path}: damaged: sha256 expected {expected}, got {got}; restore the file from the pack's source"
        )


def _empty(param: ParamSpec, dtype: type[Any]) -> npt.NDArray[Any]:
    try:
        return np.empty(param.shape, dtype)
    except MemoryError as error:
        raise EnvironmentFault(
            f"parameter {param.name!r}: not enough memory for its {param.size:,} weights; use a larger machine"
        ) from error


def _group(file: TensorFile, group: str) -> dict[str, npt.NDArray[np.float32]]:
    prefix = f"{group}/"
    return {name[len(prefix) :]: file.read(name) for name in file.entries if name.startswith(prefix)}
