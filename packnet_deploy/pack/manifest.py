"""pack.json: what a pack holds, in what order, with the hash of every file (docs/format.md).

Everything read here is treated as hostile; file names are derived, never taken from the JSON.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault, PackNetError, UsageError
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.owners import MAX_TASKS
from packnet_deploy.pack.pattern import PATTERN, fits
from packnet_deploy.pack.reading import is_possible, is_printable, open_regular, parse_json

FORMAT = "packnet-pack"
VERSION = 1
GRAPH_FILE = "graph.onnx"
MANIFEST_FILE = "pack.json"
MAX_MANIFEST_BYTES = 1 << 23
MAX_WEIGHTS = 1 << 40

_TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_task_name(name: str) -> bool:
    """Whether ``name`` may name a task, and with that a file."""
    return _TASK_NAME.fullmatch(name) is not None


def check_task_name(name: str) -> str:
    """Return ``name`` if it may name a task.

    Raises:
        UsageError: it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``, beginning with a letter or digit.
    """
    if not is_task_name(name):
        raise UsageError(
            f"task name {name!r}: expected 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        )
    return name


@dataclass(frozen=True)
class Backbone:
    """How to build the network again in the training framework; deployment never needs it."""

    arch: str  # a name the trainer knows, or "custom"
    head: str  # the head module's name there, e.g. "classifier.1"


@dataclass(frozen=True)
class ParamSpec:
    """One packable parameter: a convolution's or linear layer's weight.

    Attributes:
        pattern: "2:4" where the owned weights of all tasks together keep to that, else "".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    pattern: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class TaskEntry:
    """One task as pack.json lists it."""

    name: str
    index: int
    classes: int
    sha256: str  # of the delta file
    bytes: int

    @property
    def file(self) -> str:
        """The delta's path inside the pack."""
        return f"deltas/{self.index:04d}-{self.name}.safetensors"


@dataclass(frozen=True)
class Manifest:
    """The content of pack.json."""

    backbone: Backbone
    input: InputSpec
    graph_sha256: str
    packable: tuple[ParamSpec, ...]
    tasks: tuple[TaskEntry, ...] = ()

    @property
    def weights(self) -> int:
        """How many packable weights there are."""
        return sum(param.size for param in self.packable)

    @property
    def last_sha256(self) -> str:
        """What the next delta's ``parent`` must be."""
        return self.tasks[-1].sha256 if self.tasks else ""

    def with_task(self, entry: TaskEntry) -> Manifest:
        return replace(self, tasks=(*self.tasks, entry))

    def to_bytes(self) -> bytes:
        document = {
            "format": FORMAT,
            "version": VERSION,
            "backbone": asdict(self.backbone),
            "input": self.input.to_json(),
            "graph": {"file": GRAPH_FILE, "sha256": self.graph_sha256},
            "packable": [
                {"name": p.name, "shape": list(p.shape), "dtype": p.dtype}
                | ({"pattern": p.pattern} if p.pattern else {})
                for p in self.packable
            ],
            "tasks": [
                {"name": t.name, "index": t.index, "classes": t.classes}
                | {"file": t.file, "sha256": t.sha256, "bytes": t.bytes}
                for t in self.tasks
            ],
        }
        return _readable(document).encode()

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a pack.json.

        Raises:
            ArtefactError: it is missing, malformed, of another version, or contradicts itself.
            EnvironmentFault: there is no such folder, or the system does not let us read it.
        """
        missing: PackNetError = ArtefactError(f"{path.parent}: not a pack (it has no {MANIFEST_FILE})")
        if not path.parent.exists():
            missing = EnvironmentFault(f"{path.parent}: expected a pack, got nothing: no such folder; give its path")
        with open_regular(path, missing, inside=path.parent) as file:
            if file.size > MAX_MANIFEST_BYTES:
                raise ArtefactError(f"{path}: larger than {MAX_MANIFEST_BYTES:,} bytes, so not a pack.json")
            raw = file.readall()
        try:
            document = parse_json(raw.decode("utf-8"))  # given bytes, Python would take UTF-16 as well
        except (ValueError, RecursionError) as error:
            raise ArtefactError(f"{path}: damaged, not JSON ({error})") from error
        try:
            return _parse(document, str(path))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArtefactError(f"{path}: damaged, a field is missing or malformed ({error!r})") from error


def _readable(document: Mapping[str, Any]) -> str:
    """JSON with a line for every field and for every item of a list: made to be read, and to differ by lines."""

    def text(value: object) -> str:
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(f"    {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n  ]"
        return json.dumps(value, ensure_ascii=False)

    return "{\n" + ",\n".join(f'  "{key}": {text(value)}' for key, value in document.items()) + "\n}\n"


def _parse(document: Mapping[str, Any], where: str) -> Manifest:
    if document.get("format") != FORMAT:
        raise ArtefactError(f"{where}: format: expected {FORMAT!r}, got {reprlib.repr(document.get('format'))}")
    if (version := document.get("version")) != VERSION or type(version) is not int:
        raise ArtefactError(
            f"{where}: pack version: this packnet-deploy reads {VERSION}, got {reprlib.repr(version)}; "
            "use the release that wrote it, or a newer one"
        )
    backbone, graph = document["backbone"], document["graph"]
    manifest = Manifest(
        backbone=Backbone(arch=_text(backbone["arch"]), head=_text(backbone["head"])),
        input=InputSpec.from_json(document["input"], where),
        graph_sha256=check_sha256(graph["sha256"]),
        packable=tuple(_param(item) for item in _list(document["packable"])),
        tasks=tuple(
            TaskEntry(
                name=_task_name(item["name"]),
                index=_count(item["index"]),
                classes=_count(item["classes"]),
                sha256=check_sha256(item["sha256"]),
                bytes=_count(item["bytes"]),
            )
            for item in _list(document["tasks"])
        ),
    )
    _check_consistent(manifest, where)
    files = [GRAPH_FILE, *(task.file for task in manifest.tasks)]
    listed = [graph["file"], *(item["file"] for item in document["tasks"])]
    for expected, got in zip(files, listed, strict=True):
        if expected != got:
            raise ArtefactError(f"{where}: file name: expected {expected!r}, got {reprlib.repr(got)}")
    return manifest


def _check_consistent(manifest: Manifest, where: str) -> None:
    names = [param.name for param in manifest.packable]
    if len(set(names)) != len(names):
        raise ArtefactError(f"{where}: a packable parameter is listed twice")
    if len({task.name for task in manifest.tasks}) != len(manifest.tasks):
        raise ArtefactError(f"{where}: a task is listed twice")
    if len(manifest.tasks) > MAX_TASKS:
        raise ArtefactError(f"{where}: {len(manifest.tasks)} tasks, a pack holds at most {MAX_TASKS}")
    for expected, task in enumerate(manifest.tasks, start=1):
        if task.index != expected:
            raise ArtefactError(f"{where}: task {task.name!r}: expected index {expected}, got {task.index}")
    if manifest.weights > MAX_WEIGHTS:
        raise ArtefactError(f"{where}: {manifest.weights:,} packable weights, at most {MAX_WEIGHTS:,}")


def _param(item: Mapping[str, Any]) -> ParamSpec:
    shape = tuple(_count(s) for s in _list(item["shape"]))
    param = ParamSpec(_text(item["name"]), shape, _text(item["dtype"]), item.get("pattern", ""))
    if param.dtype != "float32":
        raise ValueError(f"packable {param.name!r}: dtype {param.dtype!r} is not float32")
    if not param.shape or 0 in param.shape or not is_possible(param.shape):
        raise ValueError(f"packable {param.name!r}: shape {reprlib.repr(param.shape)}")
    if param.pattern not in ("", PATTERN):
        raise ValueError(f"packable {param.name!r}: pattern {reprlib.repr(param.pattern)} is not {PATTERN!r}")
    if param.pattern and not fits(param.shape):
        raise ValueError(f"packable {param.name!r}: shape {list(param.shape)} cannot keep to {PATTERN}")
    return param


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {reprlib.repr(value)}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not is_printable(value):
        raise ValueError(f"expected a printable text, got {reprlib.repr(value)}")
    return value


def _task_name(value: object) -> str:
    if not isinstance(value, str) or not is_task_name(value):
        raise ValueError(f"expected a task name, got {reprlib.repr(value)}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_WEIGHTS:
        raise ValueError(f"expected a count, got {reprlib.repr(value)}")
    return value


def is_sha256(text: str) -> bool:
    """Whether ``text`` is 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


def check_sha256(value: object) -> str:
    if not isinstance(value, str) or not is_sha256(value):
        raise ValueError(f"expected a sha256 in hex, got {reprlib.repr(value)}")
    return value
