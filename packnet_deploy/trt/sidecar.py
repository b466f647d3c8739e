"""The JSON file beside a plan: everything that has to be known, and checked, before the plan itself is read.

A plan is native code, so it is deserialised last: after its hash, TensorRT's version, the GPU and the pack have been
held against this file. The schema is docs/engines.md's. Hashes find damage and mix-ups, not malice (docs/security.md).
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.export.norms import Norm
from packnet_deploy.export.options import PRECISION_NAMES
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import is_sha256, is_task_name
from packnet_deploy.pack.owners import MAX_TASKS
from packnet_deploy.pack.reading import MAX_DIMENSIONS, is_possible, is_printable, open_regular, parse_json
from packnet_deploy.trt.bank import Weight
from packnet_deploy.trt.flavour import FLAVOURS
from packnet_deploy.trt.options import SWITCHES

FORMAT = "packnet-plan"
VERSION = 1
MAX_BYTES = 1 << 23
MAX_CLASSES = 1 << 24
MAX_BATCH = 1 << 20
MAX_COUNT = 1 << 40  # of weights, and of bytes


@dataclass(frozen=True)
class Gpu:
    """The GPU of a machine, as the CUDA driver names it."""

    name: str
    compute_capability: str  # "8.6"
    driver: str  # the newest CUDA that the driver supports, "13.0"
    memory: int  # bytes


@dataclass(frozen=True)
class Batch:
    """Images a request may hold; TensorRT chose its kernels for ``best``."""

    least: int
    best: int
    most: int


@dataclass(frozen=True)
class PlanTask:
    """A task of the pack the plan was built from."""

    name: str
    index: int
    classes: int  # how many
    sha256: str  # of its delta


@dataclass(frozen=True)
class SparseLayer:
    """Whether one banked weight may run, and does run, on sparse tensor cores.

    Attributes:
        eligible: all tasks together keep to 2:4 along its inputs, so a sparse kernel may run it, for any task.
        promised: the pack keeps it so for the tasks still to come.
        picked: TensorRT chose a sparse kernel; None where it does not tell.
    """

    name: str
    eligible: bool
    promised: bool
    picked: bool | None = None


@dataclass(frozen=True)
class Sidecar:
    """All that is known of a plan.

    Attributes:
        tensorrt: the version of ``flavour`` that built it, and the only one that may load it.
        gpu: where it was built; None where no GPU took part.
        compute_capabilities: of the GPUs it runs on.
        switch: refit, bind, selector, or none: a plan of one task.
        input: of the pack, at the plan's image size.
        classes: how many logits the engine has; those beyond a task's own classes mean nothing.
        fixed_sha256: of the weights that are in the plan for good (``EngineBank.fixed_sha256``).
        graph_sha256: of the pack's graph.
        onnx_sha256: of the graph that TensorRT was given, weights included.
        tasks: of the pack when the plan was built; a plan of one task has that one.
        weights: those that change with the task; empty for selector and none.
        norms: for a runtime that reads the pack but no ONNX: how normalisation became scales and shifts.
        sparse_weights: TensorRT was free to choose sparse kernels.
        tf32: TensorRT was free to round the factors of fp32 products to ten bits.
    """

    flavour: str
    tensorrt: str
    gpu: Gpu | None
    compute_capabilities: tuple[str, ...]
    switch: str
    precision: str
    batch: Batch
    input: InputSpec
    classes: int
    fixed_sha256: str
    graph_sha256: str
    onnx_sha256: str
    tasks: tuple[PlanTask, ...]
    weights: tuple[Weight, ...]
    norms: tuple[Norm, ...]
    sparse_weights: bool
    tf32: bool
    sparsity: tuple[SparseLayer, ...]
    plan_sha256: str
    plan_bytes: int

    def to_bytes(self) -> bytes:
        document = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self), "input": self.input.to_json()}
        return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def sidecar_path(plan: Path) -> Path:
    return plan.with_name(f"{plan.name}.json")


def no_plan(plan: Path) -> EnvironmentFault:
    """The error where there is no plan."""
    return EnvironmentFault(f"{plan}: expected a plan, got nothing: no such file; build it with packnet build")


def write_sidecar(sidecar: Sidecar, plan: Path) -> None:
    """Write it beside ``plan``, in one step."""
    with replacing(sidecar_path(plan)) as file:
        file.write(sidecar.to_bytes())


def read_sidecar(plan: Path) -> Sidecar:
    """The sidecar of ``plan``, every field there, of its type, and making sense; nothing is held against the plan yet.

    Raises:
        ArtefactError: it is damaged or of another version.
        EnvironmentFault: it, or the plan, is not there, or it cannot be read.
    """
    path = sidecar_path(plan)
    lost = EnvironmentFault(f"{plan}: expected its sidecar {path.name} beside it, got none; build the plan again")
    with open_regular(path, lost if plan.exists() else no_plan(plan)) as file:
        content = file.read(MAX_BYTES + 1)
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        document = parse_json(content.decode())
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"expected an object with format {FORMAT!r}")
        if type(document.get("version")) is not int or document["version"] != VERSION:
            raise ValueError(f"expected version {VERSION}, got {str(document.get('version'))[:20]!r}")
        fields = {name: value for name, value in document.items() if name not in ("format", "version")}
        return _expect_sense(_typed(fields))
    except (ValueError, RecursionError) as error:  # includes what is not UTF-8 and not JSON
        raise ArtefactError(f"{path}: damaged or of another version ({error}); build the plan again") from error


def _expect_sense(sidecar: Sidecar) -> Sidecar:
    """The sidecar, if its fields have the values that docs/engines.md allows, and go together.

    Raises:
        ValueError: they do not; names the field.
    """
    batch, weights, switch = sidecar.batch, sidecar.weights, sidecar.switch
    indices = [task.index for task in sidecar.tasks]
    names, layers = [weight.name for weight in weights], [layer.name for layer in sidecar.sparsity]
    hashes = (sidecar.fixed_sha256, sidecar.graph_sha256, sidecar.onnx_sha256, sidecar.plan_sha256)
    for field, makes_sense in (
        ("flavour", sidecar.flavour in FLAVOURS),
        ("gpu", sidecar.gpu is None or 0 <= sidecar.gpu.memory <= MAX_COUNT),
        ("switch", switch in SWITCHES),
        ("precision", sidecar.precision in PRECISION_NAMES),
        ("batch", 1 <= batch.least <= batch.best <= batch.most <= MAX_BATCH),
        ("tasks", indices == list(range(1, len(indices) + 1)) if switch != "none" else len(indices) == 1),
        ("tasks", bool(indices) and min(indices) >= 1 and max(indices) <= MAX_TASKS),
        ("tasks", all(is_task_name(task.name) and is_sha256(task.sha256) for task in sidecar.tasks)),
        ("classes", all(1 <= task.classes <= sidecar.classes <= MAX_CLASSES for task in sidecar.tasks)),
        ("weights", len(set(names)) == len(names) and bool(names) == (switch in ("refit", "bind"))),
        ("weights", all(weight.dtype == sidecar.precision for weight in weights)),
        ("weights", all(is_possible(weight.shape) and min(weight.shape, default=0) > 0 for weight in weights)),
        ("weights", sum(math.prod(weight.shape) for weight in weights) <= MAX_COUNT),
        ("norms", all(_is_possible_norm(norm) for norm in sidecar.norms)),
        ("sparsity", len(set(layers)) == len(layers)),
        ("sparsity", not names or {*layers} == {weight.name for weight in weights if weight.banked}),
        ("the hashes", all(is_sha256(text) for text in hashes)),
        ("plan_bytes", 0 <= sidecar.plan_bytes <= MAX_COUNT),
    ):
        if not makes_sense:
            raise ValueError(f"sidecar.{field}: contradicts itself or another field, or is out of range")
    return sidecar


def _is_possible_norm(norm: Norm) -> bool:
    return norm.epsilon >= 0 and norm.shape == (-1, *(1,) * (len(norm.shape) - 1)) and len(norm.shape) <= MAX_DIMENSIONS


def _typed(document: Mapping[str, Any]) -> Sidecar:
    """The sidecar of ``document``: every field there and no other, at any depth, each of its type, all texts printable.

    Raises:
        ValueError: something is not; says where.
    """
    names = {field.name for field in dataclasses.fields(Sidecar)}
    if document.keys() != names:
        got = ", ".join(sorted(document))[:200]
        raise ValueError(f"sidecar: expected the fields {', '.join(sorted(names))}, got {got!r}")
    rest = {name: value for name, value in document.items() if name != "input"}  # which is read as in a pack
    _expect_printable(rest, "sidecar")
    try:
        sidecar = msgspec.convert({**rest, "input": _input(document["input"], "sidecar.input")}, Sidecar)
    except msgspec.ValidationError as error:
        raise ValueError(_explained(error, document)) from None
    written = json.loads(sidecar.to_bytes())
    for name, value in rest.items():
        if written[name] != value:  # msgspec passes over fields that it does not know, and fills in defaults
            raise ValueError(f"sidecar.{name}: expected the fields that packnet writes, got {_shown(value)}")
    return sidecar


def _explained(error: msgspec.ValidationError, value: Any) -> str:
    """From "Expected `int`, got `str` - at `$.batch.least`" to where, what was expected, and the value itself."""
    said, _, path = str(error).replace("`", "").partition(" - at $")
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        value = value[name or int(index)]
    expected = said.partition(", got")[0]
    for its, ours in (
        ("Object missing required field", "expected the field"),
        ("Expected", "expected"),
        ("array", "a list"),
    ):
        expected = expected.replace(its, ours)
    return f"sidecar{path}: {expected}, got {_shown(value)}"


def _expect_printable(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _expect_printable(name, where)
            _expect_printable(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _expect_printable(inner, f"{where}[{index}]")
    elif isinstance(value, str) and not (value and is_printable(value)):
        raise ValueError(f"{where}: expected str, printable and not empty, got {_shown(value)}")


def _input(value: Any, where: str) -> InputSpec:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected an input description, got {_shown(value)}")
    try:
        return InputSpec.from_json(value, where)
    except ArtefactError as error:
        raise ValueError(str(error)) from error


def _shown(value: Any) -> str:
    return repr(value)[:60]
