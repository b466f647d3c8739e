"""One task delta: what it says about itself, how it is written, and every check before it is believed.

docs/format.md is the specification. Where deltas are put and in what order is directory.py's and growth.py's
business; what a parameter looks like inside one is encode.py's, and
turning deltas into weights decode.py's.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack.encode import VALUE_DTYPES, count_bits, encode_param, padding_is_zero
from packnet_deploy.pack.inputs import PROBE_IMAGES, InputSpec
from packnet_deploy.pack.manifest import Manifest, ParamSpec, check_sha256, is_task_name
from packnet_deploy.pack.owners import MAX_TASKS, OwnerMap
from packnet_deploy.pack.reading import is_printable, parse_json
from packnet_deploy.pack.tensorfile import TensorFile, write_tensors

FORMAT = "packnet-delta"
VERSION = 1
_INDICES = frozenset(str(index) for index in range(1, MAX_TASKS + 1))

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class NewTask:
    """A trained task on its way into a pack.

    Attributes:
        owners: uint8 owner map of every packable parameter, this task's weights marked with its index.
        weights: float32 values of the same shapes; only those this task owns are read.
        head: ``weight`` ``[classes, ...]`` and, where the head has one, ``bias`` ``[classes]``; float32.
        shared: task 1 only: every other parameter and floating buffer, by name; float32.
        own: this task's replacements for some of ``shared``; float32.
        probe_logits: float32 ``[PROBE_IMAGES, classes]``, the training framework's answer to the probe batch.
        frozen_sha256: ``bank_sha256`` of the live module's earlier tasks, taken after training this one.
        value_dtype: how the values are stored: float32, float16, bfloat16. ``weights`` must survive it unchanged.
        report: figures of the training run (accuracies and the like), kept for ``packnet inspect``; JSON.
        input: how this task's images become the input, where that is not as the pack says. None: as the pack says.
    """

    name: str
    classes: tuple[str, ...]
    owners: Mapping[str, OwnerMap]
    weights: Arrays
    head: Arrays
    probe_logits: npt.NDArray[np.float32]
    frozen_sha256: str
    shared: Arrays = field(default_factory=dict)
    own: Arrays = field(default_factory=dict)
    value_dtype: str = "float32"
    report: Mapping[str, Any] = field(default_factory=dict)
    input: InputSpec | None = None


def write_delta(file: BinaryIO, task: NewTask, manifest: Manifest) -> None:
    """Write ``task`` as the next delta of the pack that ``manifest`` describes.

    Raises:
        ValueError: shapes or values that cannot be stored as they are.
    """
    index = len(manifest.tasks) + 1
    tensors: dict[str, npt.NDArray[Any]] = {}
    for param in manifest.packable:
        owner, weights = task.owners[param.name], task.weights[param.name]
        mask, values = encode_param(param, owner, weights, index, task.value_dtype)
        tensors[f"values/{param.name}"] = values
        if mask is not None:
            tensors[f"mask/{param.name}"] = mask
    for group, arrays in (("head", task.head), ("shared", task.shared), ("own", task.own)):
        tensors |= {f"{group}/{name}": np.asarray(array, np.float32) for name, array in arrays.items()}
    tensors["probe/logits"] = np.asarray(task.probe_logits, np.float32)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "task": task.name,
        "index": str(index),
        "classes": json.dumps(list(task.classes), ensure_ascii=False),
        "parent": manifest.last_sha256,
        "graph_sha256": manifest.graph_sha256,
        "input_sha256": manifest.input.sha256,
        "frozen_sha256": task.frozen_sha256,
        "report": json.dumps(task.report, sort_keys=True, ensure_ascii=False),
    }
    if task.input is not None and task.input.sha256 != manifest.input.sha256:
        metadata["input"] = json.dumps(task.input.to_json(), sort_keys=True)
    write_tensors(file, tensors, metadata)


@dataclass(frozen=True)
class DeltaHeader:
    """What a delta file says about itself."""

    task: str
    index: int
    classes: tuple[str, ...]
    parent: str
    graph_sha256: str
    input_sha256: str
    frozen_sha256: str
    report: Mapping[str, Any]
    input: InputSpec | None = None  # how the task's images become the input; None: as the pack says

    @classmethod
    def of(cls, file: TensorFile) -> DeltaHeader:
        """Parse a delta's metadata.

        Raises:
            ArtefactError: not a delta, of another version, or malformed.
        """
        meta, where = file.metadata, file.path
        if meta.get("format") != FORMAT:
            got = reprlib.repr(meta.get("format"))
            raise ArtefactError(f"{where}: not a task delta (format: expected {FORMAT!r}, got {got})")
        if meta.get("version") != str(VERSION):
            raise ArtefactError(
                f"{where}: delta version: this packnet-deploy reads {VERSION}, got {reprlib.repr(meta.get('version'))}"
            )
        try:
            classes, report = parse_json(meta["classes"]), parse_json(meta.get("report", "{}"))
            if not isinstance(report, dict) or not isinstance(classes, list) or not classes:
                raise ValueError("classes or report")
            if not all(isinstance(name, str) and is_printable(name) for name in classes):
                raise ValueError("class names")
            if meta["index"] not in _INDICES:
                raise ValueError(f"index {reprlib.repr(meta['index'])}")
            if not is_task_name(meta["task"]):
                raise ValueError(f"task name {reprlib.repr(meta['task'])}")
            if meta["parent"]:
                check_sha256(meta["parent"])
            return cls(
                task=meta["task"],
                index=int(meta["index"]),
                classes=tuple(classes),
                parent=meta["parent"],
                graph_sha256=check_sha256(meta["graph_sha256"]),
                input_sha256=check_sha256(meta["input_sha256"]),
                frozen_sha256=check_sha256(meta["frozen_sha256"]),
                report=report,
                input=InputSpec.from_json(parse_json(meta["input"]), str(where)) if "input" in meta else None,
            )
        except (KeyError, ValueError, RecursionError) as error:
            raise ArtefactError(f"{where}: damaged, metadata is missing or malformed ({error!r})") from error


def check_delta(
    file: TensorFile, header: DeltaHeader, packable: Sequence[ParamSpec], free: Sequence[int], first: TensorFile
) -> list[int]:
    """Check every tensor of a delta against the parameters, what earlier tasks left free, and task 1's tensors.

    Args:
        free: for every packable parameter, how many weights are free before this task.
        first: the delta of task 1, which may be ``file`` itself: all heads and all ``own/`` tensors are shaped alike.

    Returns:
        For every packable parameter, how many weights this task owns.

    Raises:
        ArtefactError: a tensor is missing, unknown, or has the wrong dtype, shape or bits; names it.
    """
    known = {"probe/logits", "head/weight", "head/bias"}
    owned = []
    for param, available in zip(packable, free, strict=True):
        known |= {f"mask/{param.name}", f"values/{param.name}"}
        owned.append(_check_param(file, param, available))
    names = {param.name for param in packable}
    for name in file.entries:
        group, _, rest = name.partition("/")
        if name in known or (group in ("shared", "own") and rest and rest not in names):
            continue
        raise ArtefactError(f"{file.path}: unknown tensor {name!r}; was this delta made for another backbone?")
    if header.index > 1 and any(name.startswith("shared/") for name in file.entries):
        raise ArtefactError(f"{file.path}: only task 1 may hold shared/ tensors, this is task {header.index}")
    classes = len(header.classes)
    _check_tensor(file, "probe/logits", (PROBE_IMAGES, classes))
    _check_tensor(file, "head/weight", (classes, *_entry(first, "head/weight").shape[1:]))
    if "head/bias" in first.entries or "head/bias" in file.entries:
        _entry(first, "head/bias")
        _check_tensor(file, "head/bias", (classes,))
    for name, entry in file.entries.items():
        if name.startswith("shared/"):
            _check_tensor(file, name, entry.shape)
        elif name.startswith("own/"):
            shared = first.entries.get(f"shared/{name[len('own/') :]}")
            if shared is None:
                raise ArtefactError(f"{file.path}: {name}: the pack has no shared/ tensor that it could replace")
            _check_tensor(file, name, shared.shape)
    return owned


def _check_param(file: TensorFile, param: ParamSpec, free: int) -> int:
    values, mask = _entry(file, f"values/{param.name}"), file.entries.get(f"mask/{param.name}")
    if len(values.shape) != 1 or values.dtype not in VALUE_DTYPES.values():
        raise ArtefactError(
            f"{file.path}: values/{param.name}: expected 1-D float32, float16 or bfloat16, "
            f"got {values.dtype} {list(values.shape)}"
        )
    if mask is None:
        if values.size != free:
            raise ArtefactError(
                f"{file.path}: values/{param.name}: no mask, so expected all {free:,} free weights, got {values.size:,}"
            )
        return free
    if mask.dtype != np.uint8 or mask.shape != ((free + 7) // 8,):
        raise ArtefactError(
            f"{file.path}: mask/{param.name}: expected uint8 [{(free + 7) // 8}] for {free:,} free weights, "
            f"got {mask.dtype} {list(mask.shape)}; was this delta made for another pack?"
        )
    bits = file.read(f"mask/{param.name}")
    if len(bits) and not padding_is_zero(bits, free):
        raise ArtefactError(f"{file.path}: mask/{param.name}: padding bits are not zero")
    marked = count_bits(bits)
    if marked == free:
        raise ArtefactError(f"{file.path}: mask/{param.name}: marks every free weight, so it must be left out")
    if marked != values.size:
        raise ArtefactError(
            f"{file.path}: mask/{param.name} marks {marked:,} weights, but there are {values.size:,} values"
        )
    return marked


def _entry(file: TensorFile, name: str) -> Any:
    if name not in file.entries:
        raise ArtefactError(f"{file.path}: tensor {name!r} is missing; was this delta made for another backbone?")
    return file.entries[name]


def _check_tensor(file: TensorFile, name: str, shape: tuple[int, ...]) -> None:
    entry = _entry(file, name)
    if entry.dtype != np.float32 or entry.shape != shape:
        raise ArtefactError(
            f"{file.path}: {name}: expected float32 {list(shape)}, got {entry.dtype} {list(entry.shape)}"
        )
