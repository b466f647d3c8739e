"""The deltas of a pack's first tasks, open together: each hashed once, then checked against the others and pack.json.

Everything that is known of tasks is read from here: what their deltas say, how much they own, their weights. Nothing
is kept; a pack that is held open (directory.py) does that.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.pack.bank import WeightBank
from packnet_deploy.pack.decode import decode_param
from packnet_deploy.pack.delta import DeltaHeader, check_delta
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import MANIFEST_FILE, Manifest, ParamSpec, TaskEntry
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


class Delta(NamedTuple):
    """One task's delta, checked."""

    file: TensorFile
    header: DeltaHeader

    @property
    def probe_logits(self) -> npt.NDArray[np.float32]:
        return self.file.read("probe/logits")

    def group(self, name: str) -> dict[str, npt.NDArray[np.float32]]:
        """The tensors ``name/…``, ``head``, ``shared`` or ``own``, by the rest of their names; read anew each time."""
        prefix = f"{name}/"
        return {key[len(prefix) :]: self.file.read(key) for key in self.file.entries if key.startswith(prefix)}


@dataclass(frozen=True)
class Chain:
    """The deltas of tasks 1, 2, … of the pack at ``path``; :func:`open_chain` makes one."""

    path: Path
    manifest: Manifest
    deltas: tuple[Delta, ...]

    @property
    def files(self) -> tuple[TensorFile, ...]:
        return tuple(delta.file for delta in self.deltas)

    def capacity(self) -> tuple[LayerCapacity, ...]:
        """Who owns how much of every packable parameter; no weight is decoded."""
        return tuple(
            LayerCapacity(p.name, p.size, tuple(f.entries[f"values/{p.name}"].size for f in self.files), p.pattern)
            for p in self.manifest.packable
        )

    def dense(self, task: int) -> dict[str, npt.NDArray[np.float32]]:
        """Task ``task``'s packable weights, decoded straight: one dense copy and small blocks is all the memory."""
        values = {param.name: _empty(param, np.float32) for param in self.manifest.packable}
        self._for_each_param(lambda param: decode_param(param, self.files[:task], values[param.name]))
        return values

    def bank(self) -> WeightBank:
        """The weight bank of all tasks.

        Raises:
            ArtefactError: a delta is damaged, or the owners break a pattern that pack.json promises.
        """
        values = {param.name: _empty(param, np.float32) for param in self.manifest.packable}
        owners: dict[str, OwnerMap] = {param.name: _empty(param, np.uint8) for param in self.manifest.packable}

        def decode(param: ParamSpec) -> None:
            decode_param(param, self.files, values[param.name], owners[param.name])
            check_pattern(self.path, param, owners[param.name])

        self._for_each_param(decode)
        shared = self.deltas[0].group("shared") if self.deltas else {}
        return WeightBank(self.manifest.packable, len(self.deltas), values, owners, shared)

    def task_weights(self, task: int, dense: dict[str, npt.NDArray[np.float32]]) -> TaskWeights:
        """Task ``task`` whole: ``dense``, its packable weights, and what its delta and task 1's hold beside them."""
        delta = self.deltas[task - 1]
        head = {f"head.{key}": value for key, value in delta.group("head").items()}
        tensors = dense | self.deltas[0].group("shared") | delta.group("own") | head
        spec = delta.header.input or self.manifest.input
        return TaskWeights(tensors, delta.header.classes, delta.probe_logits, spec)

    def _for_each_param(self, decode: Callable[[ParamSpec], None]) -> None:
        with ThreadPoolExecutor() as pool:  # numpy releases the GIL for what takes time
            list(pool.map(decode, self.manifest.packable))


@contextlib.contextmanager
def open_chain(path: Path, manifest: Manifest, through: int) -> Iterator[Chain]:
    """The deltas of tasks 1..through, open for as long as the context lasts.

    Raises:
        ArtefactError: a file is missing, its hash differs, or its content does not fit.
    """
    if not 0 <= through <= len(manifest.tasks):
        raise ValueError(f"task index: expected 0..{len(manifest.tasks)}, got {through}")
    entries = manifest.tasks[:through]
    paths = [path / entry.file for entry in entries]
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        list(pool.map(partial(check_file, inside=path), paths, entries))
    with contextlib.ExitStack() as stack:
        deltas: list[Delta] = []
        free = [param.size for param in manifest.packable]
        for position, entry in enumerate(entries):
            file = stack.enter_context(TensorFile(paths[position], inside=path))
            header = DeltaHeader.of(file)
            check_place(file, header, manifest, position)
            if (header.task, len(header.classes)) != (entry.name, entry.classes):
                raise ArtefactError(
                    f"{file.path}: expected task {entry.name!r} with {entry.classes} classes as in {MANIFEST_FILE}, "
                    f"got {header.task!r} with {len(header.classes)}"
                )
            owned = check_delta(file, header, manifest.packable, free, deltas[0].file if deltas else file)
            free = [f - o for f, o in zip(free, owned, strict=True)]
            deltas.append(Delta(file, header))
        yield Chain(path, manifest, tuple(deltas))


def check_file(path: Path, entry: TaskEntry, inside: Path) -> None:
    """Hold a delta file's size, which costs nothing, and then its hash against what pack.json says.

    Args:
        inside: the pack; from there on, no part of the way to ``path`` may be a link.

    Raises:
        ArtefactError: it is missing, or another file, or reached over a link.
    """
    with open_regular(path, inside=inside) as file:
        size = file.size
    if size != entry.bytes:
        raise ArtefactError(
            f"{path}: damaged: size expected {entry.bytes:,} bytes, as {MANIFEST_FILE} says, got {size:,}; "
            "restore the file from the pack's source"
        )
    check_hash(path, entry.sha256, file_sha256(path, inside))


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
    check_own_input(file, header, manifest)


def check_own_input(file: TensorFile, header: DeltaHeader, manifest: Manifest) -> None:
    """Check that a task's own input description is of the network's shape, and differs from the pack's.

    Raises:
        ArtefactError: it is not, or does not.
    """
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


def file_sha256(path: Path, inside: Path | None = None) -> str:
    """SHA-256 of a file, in hex.

    Args:
        inside: from this folder on, no part of the way to ``path`` may be a link.

    Raises:
        ArtefactError: it is reached over a link, or the pack ``inside`` lacks it.
        EnvironmentFault: there is no such file.
    """
    digest = hashlib.sha256()
    with open_regular(path, inside=inside) as file:
        buffer = bytearray(_READ_BYTES)
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def check_hash(path: Path, expected: str, got: str) -> None:
    """Raises ArtefactError unless ``got``, the hash of the file at ``path``, is the ``expected`` one."""
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
