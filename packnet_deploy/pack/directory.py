"""A pack on disk, opened for reading. Listing it reads pack.json only; every delta used is hashed first.

What asks a pack for more than one thing holds it open, and whatever it hands the pack on to reads nothing again:

    with pack.opened() as pack:     # every delta is hashed and checked here, once
        bank = pack.bank()          # every delta is decoded here, once
        export_task(pack, "flowers", path)

Writing is in growth.py. A :class:`Pack` is a snapshot: growing the directory gives a new one, and never changes
a file that an older snapshot names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack.bank import WeightBank
from packnet_deploy.pack.chain import (
    Chain,
    Delta,
    TaskWeights,
    check_file,
    check_hash,
    check_own_input,
    open_chain,
)
from packnet_deploy.pack.delta import DeltaHeader
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import GRAPH_FILE, MANIFEST_FILE, Backbone, Manifest, ParamSpec, TaskEntry
from packnet_deploy.pack.owners import LayerCapacity
from packnet_deploy.pack.reading import open_regular
from packnet_deploy.pack.tensorfile import TensorFile

MAX_GRAPH_BYTES = 1 << 26  # it has no weights


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
        return Pack(Path(path), Manifest.read(Path(path) / MANIFEST_FILE))

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
        with open_regular(path, inside=self.path) as file:
            if file.size > MAX_GRAPH_BYTES:
                raise ArtefactError(f"{path}: expected at most {MAX_GRAPH_BYTES:,} bytes, got {file.size:,}")
            data = file.readall()
        check_hash(path, self.manifest.graph_sha256, hashlib.sha256(data).hexdigest())
        return data

    @contextlib.contextmanager
    def opened(self, tasks: Sequence[str] | None = None) -> Iterator[OpenedPack]:
        """The pack with its deltas held open: from here on each is hashed once and decoded once.

        Args:
            tasks: what will be asked for; deltas behind the last of these stay closed. All tasks where None.

        Raises:
            UsageError: the pack has no such task.
            ArtefactError: a file is missing, its hash differs, or its content does not fit.
        """
        wanted = self.tasks if tasks is None else [self.task(name) for name in tasks]
        through = max((entry.index for entry in wanted), default=0)
        with open_chain(self.path, self.manifest, through) as chain:
            yield OpenedPack(self.path, self.manifest, chain)

    def header(self, name: str) -> DeltaHeader:
        """What one task's delta says about itself; the file is hashed first."""
        entry = self.task(name)
        check_file(self.file(entry), entry, inside=self.path)
        with TensorFile(self.file(entry), inside=self.path) as file:
            header = DeltaHeader.of(file)
            check_own_input(file, header, self.manifest)
            return header

    def task_input(self, name: str) -> InputSpec:
        """How one task's images become its input; its delta is hashed first."""
        return self.header(name).input or self.input

    def capacity(self) -> tuple[LayerCapacity, ...]:
        """Who owns how much of every packable parameter; hashes and checks every delta, decodes none."""
        with self.opened() as opened:
            return opened.capacity()

    def load_task(self, name: str) -> TaskWeights:
        """Materialise one task from the deltas before it and its own. Memory: one dense copy and small blocks."""
        entry = self.task(name)
        with open_chain(self.path, self.manifest, entry.index) as chain:
            return chain.task_weights(entry.index, chain.dense(entry.index))

    def bank(self, through: int | None = None) -> WeightBank:
        """The weight bank of tasks 1..through (all by default).

        Raises:
            ArtefactError: a delta is damaged, or the owners break a pattern that pack.json promises.
        """
        with open_chain(self.path, self.manifest, len(self.tasks) if through is None else through) as chain:
            return chain.bank()


@dataclass(frozen=True)
class OpenedPack(Pack):
    """A pack whose deltas are held open; :meth:`Pack.opened` makes one, and closes it.

    It answers as the pack does, without reading anything again: weights come out of one bank, which is decoded when it
    is first needed. Where one task is wanted and nothing else, a pack that is not held open takes half the memory.

    Attributes:
        chain: the deltas themselves.
    """

    chain: Chain

    @contextlib.contextmanager
    def opened(self, tasks: Sequence[str] | None = None) -> Iterator[OpenedPack]:
        """Itself, if what is asked for is open: whoever holds a pack open decides how far."""
        for entry in self.tasks if tasks is None else map(self.task, tasks):
            self._delta(entry)
        yield self

    def graph_bytes(self) -> bytes:
        return self._graph

    def header(self, name: str) -> DeltaHeader:
        return self._delta(self.task(name)).header

    def probe_logits(self, name: str) -> npt.NDArray[np.float32]:
        """What the training framework answered to the probe batch: float32 ``[PROBE_IMAGES, classes]``."""
        return self._delta(self.task(name)).probe_logits

    def capacity(self) -> tuple[LayerCapacity, ...]:
        return self.chain.capacity()

    def load_task(self, name: str) -> TaskWeights:
        entry = self.task(name)
        self._delta(entry)
        return self.chain.task_weights(entry.index, self._bank.materialise(entry.index))

    def bank(self, through: int | None = None) -> WeightBank:
        """The weight bank of the tasks that are open. It is kept, and read-only: others will ask for it as well."""
        if through in (None, len(self.chain.deltas)):
            return self._bank
        return super().bank(through)

    def _delta(self, entry: TaskEntry) -> Delta:
        if entry.index > len(self.chain.deltas):
            raise ValueError(f"{self.path}: opened for {len(self.chain.deltas)} tasks, asked for task {entry.index}")
        return self.chain.deltas[entry.index - 1]

    @cached_property
    def _graph(self) -> bytes:
        return super().graph_bytes()

    @cached_property
    def _bank(self) -> WeightBank:
        bank = self.chain.bank()
        for arrays in (bank.values, bank.owners, bank.shared):
            for array in arrays.values():
                array.flags.writeable = False
        return bank
