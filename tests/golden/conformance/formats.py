"""The formats that more than one reader reads, and what each must make of a file: pack.json, task deltas, sidecars.

A format says which files to start from, how one is mutated, how the result is put where a reader finds it (hashes put
right, so that deeper checks are reached), and what Python's reader makes of it. To hold another format to the same
drill, write a :class:`Format` and add it to ``FORMATS``; whichever program reads it too has an entry in ``PROGRAMS`` of
tests/engines/test_cpp_conformance.py, and a format that Python alone reads is still held to its own verdicts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mutation import mutated_tensors, mutated_text

from packnet_deploy.errors import PackNetError
from packnet_deploy.pack import OpenedPack, Pack, probe_batch
from packnet_deploy.trt.sidecar import read_sidecar

GOLDEN = Path(__file__).parents[1]
GOLDEN_PACK = GOLDEN / "three_tasks.pack"
MOST_PIXELS = 1 << 20  # of a probe image, to be hashed; packnet-dump has the same

Description = dict[str, Any]


class Format(ABC):
    """Files of one kind.

    Attributes:
        name: as the corpus has it.
        originals: files that every reader takes, by a short name.
    """

    name: str
    originals: dict[str, bytes]

    def mutated(self, rng: random.Random) -> tuple[str, bytes]:
        """The name of an original, and what became of it."""
        original = rng.choice(sorted(self.originals))
        return original, self.mutate(self.originals[original], rng)

    @abstractmethod
    def mutate(self, content: bytes, rng: random.Random) -> bytes: ...

    @abstractmethod
    def place(self, original: str, content: bytes, folder: Path) -> Path:
        """Put ``content``, made of ``original``, into the new ``folder``; returns what a reader is given."""

    @abstractmethod
    def describe(self, path: Path) -> Description:
        """What Python's reader makes of it, as JSON.

        Raises:
            PackNetError: the reader refuses it.
        """

    def described(self, path: Path) -> Description | None:
        """The same; None where it is refused."""
        try:
            return self.describe(path)
        except PackNetError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"not one line: {error!r}") from error
            return None


class PackJson(Format):
    """pack.json, of a pack with three tasks, with one, and with none, where a description of any input can be right."""

    name = "pack"

    def __init__(self) -> None:
        document = json.loads((GOLDEN_PACK / "pack.json").read_bytes())
        some = {count: {**document, "tasks": document["tasks"][:count]} for count in (0, 1, 3)}
        self.originals = {f"of {count} tasks": json.dumps(some[count]).encode() for count in some}

    def mutate(self, content: bytes, rng: random.Random) -> bytes:
        return mutated_text(content.decode(), rng)

    def place(self, original: str, content: bytes, folder: Path) -> Path:
        _copy_pack(folder, without=["pack.json"])
        (folder / "pack.json").write_bytes(content)
        return folder

    def describe(self, path: Path) -> Description:
        return described_pack(path)


class TaskDelta(Format):
    """The delta of one of three tasks; those behind it name its hash as their parent."""

    name = "delta"

    def __init__(self) -> None:
        self._document = json.loads((GOLDEN_PACK / "pack.json").read_bytes())
        self._files = [entry["file"] for entry in self._document["tasks"]]
        self.originals = {file: (GOLDEN_PACK / file).read_bytes() for file in self._files}

    def mutate(self, content: bytes, rng: random.Random) -> bytes:
        return mutated_tensors(content, rng)

    def place(self, original: str, content: bytes, folder: Path) -> Path:
        _copy_pack(folder, without=["pack.json", *self._files])
        tasks = []
        for entry in self._document["tasks"]:
            data = content if entry["file"] == original else self.originals[entry["file"]]
            for old, new in zip(self._document["tasks"], tasks, strict=False):
                data = data.replace(old["sha256"].encode(), new["sha256"].encode())
            (folder / entry["file"]).write_bytes(data)
            tasks.append({**entry, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
        (folder / "pack.json").write_text(json.dumps({**self._document, "tasks": tasks}))
        return folder

    def describe(self, path: Path) -> Description:
        return described_pack(path)


class PlanSidecar(Format):
    """The sidecar of a plan that is switched by refitting, by its selector, or not at all."""

    name = "sidecar"

    def __init__(self) -> None:
        self.originals = {path.name: path.read_bytes() for path in sorted((GOLDEN / "plans").iterdir())}

    def mutate(self, content: bytes, rng: random.Random) -> bytes:
        return mutated_text(content.decode(), rng)

    def place(self, original: str, content: bytes, folder: Path) -> Path:
        folder.mkdir()
        (folder / "x.plan.json").write_bytes(content)
        return folder / "x.plan"

    def describe(self, path: Path) -> Description:
        sidecar = read_sidecar(path)
        described: Description = json.loads(json.dumps(dataclasses.asdict(sidecar)))
        return described | {"input": sidecar.input.sha256}


FORMATS: Sequence[Format] = (PackJson(), TaskDelta(), PlanSidecar())


def described_pack(path: Path) -> Description:
    """Every weight and every other tensor of a pack, as hashes, and what its deltas say.

    A pack without tasks may claim any size, and an image may: what would fill the memory is left out.

    Raises:
        PackNetError: the reader refuses it.
    """
    pack = Pack.open(path)
    with pack.opened() as opened:
        opened.graph_bytes()
        small = int(np.prod(pack.input.shape)) <= MOST_PIXELS
        return {
            "input_sha256": pack.input.sha256,
            "probe_sha256": digest(probe_batch(pack.input)) if small else None,
            "parameters": [[p.name, list(p.shape), p.pattern] for p in pack.packable],
            "owners": {name: digest(owner) for name, owner in opened.bank().owners.items()} if pack.tasks else {},
            "tasks": [_described_task(opened, entry.name, entry.index) for entry in pack.tasks],
        }


def _described_task(pack: OpenedPack, name: str, index: int) -> Description:
    header, loaded, bank = pack.header(name), pack.load_task(name), pack.bank()
    packable = {param.name for param in pack.packable}
    others = {key: tensor for key, tensor in loaded.tensors.items() if key not in packable}
    return {
        "task": name,
        "index": index,
        "classes": list(loaded.classes),
        "decoded": {key: digest(value) for key, value in pack.chain.dense(index).items()},
        "masked": {key: digest(value) for key, value in bank.materialise(index).items()},
        "tensors": {key: digest(tensor) for key, tensor in others.items()},
        "shapes": {key: list(tensor.shape) for key, tensor in others.items()},
        "probe_logits": digest(loaded.probe_logits),
        "report": header.report,
        "input_sha256": loaded.input.sha256,
        "frozen_sha256": bank.sha256(index - 1),
        "stated_frozen_sha256": header.frozen_sha256,
    }


def digest(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def fingerprint(description: Description) -> str:
    """Of what a reader makes of a file, short: 16 hex digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


def _copy_pack(folder: Path, without: Sequence[str]) -> None:
    """The golden pack in a new folder, some files left out."""
    (folder / "deltas").mkdir(parents=True)
    for path in GOLDEN_PACK.rglob("*"):
        name = path.relative_to(GOLDEN_PACK)
        if path.is_file() and str(name) not in without:
            shutil.copyfile(path, folder / name)
