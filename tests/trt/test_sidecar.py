"""A sidecar is read as it was written, and refused for everything that it should not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar

Document = dict[str, Any]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "birds.plan"
    write_plan(path, growing_pack(tmp_path / "p.pack"), "bind", "fp16")
    return path


def test_what_is_written_is_read(plan: Path) -> None:
    sidecar = read_sidecar(plan)
    before = sidecar_path(plan).read_bytes()
    write_sidecar(sidecar, plan)
    assert sidecar_path(plan).read_bytes() == before == sidecar.to_bytes()
    assert isinstance(sidecar, Sidecar)
    assert [weight.dtype for weight in sidecar.weights] == ["fp16"] * len(sidecar.weights)
    assert sidecar.norms


def _set(*path: Any) -> Callable[[Document], None]:
    *where, key, value = path

    def change(document: Any) -> None:
        for step in where:
            document = document[step]
        document[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("format", "packnet-pack"), "expected an object with format"),
        (_set("version", 2), "expected version 1, got '2'"),
        (lambda d: d.pop("switch"), "expected the fields"),
        (_set("extra", 1), "expected the fields"),
        (_set("switch", "swap"), "switch: contradicts"),
        (_set("precision", "fp8"), "precision: contradicts"),
        (_set("flavour", "cudnn"), "flavour: contradicts"),
        (_set("batch", "least", 0), "batch: contradicts"),
        (_set("batch", "least", True), "batch.least: expected int, got True"),
        (_set("classes", 1), "classes: contradicts"),
        (_set("classes", 4.0), "classes: expected int"),
        (_set("weights", 0, "dtype", "fp32"), "weights: contradicts"),
        (_set("weights", 0, "shape", [8, -3, 3, 3]), "weights: contradicts"),
        (_set("weights", 0, "shape", [1 << 30, 1 << 30]), "weights: contradicts"),
        (_set("weights", 0, "name", "b\nweight"), "weights[0].name: expected str"),
        (_set("weights", []), "weights: contradicts"),
        (_set("tasks", 0, "index", 2), "tasks: contradicts"),
        (_set("tasks", []), "tasks: contradicts"),
        (_set("tasks", {}), "tasks: expected a list"),
        (_set("gpu", "name", None), "gpu.name: expected str"),
        (_set("input", "std", [0, 0, 0]), "std above 0"),
        (_set("norms", 0, "norm", ["a"]), "norm: expected a list"),
        (_set("sparsity", 0, "name", "c.weight"), "sparsity: contradicts"),
        (_set("plan_bytes", None), "plan_bytes: expected int"),
        (_set("batch", "extra", 1), "batch: expected the fields that packnet writes"),
        (lambda d: d["batch"].pop("best"), "batch: expected the field best, got {"),
        (lambda d: d["sparsity"][0].pop("picked"), "sparsity: expected the fields that packnet writes"),
        (_set("norms", 0, "norm", 3, 5), "norms[0].norm[3]: expected str, got 5"),
        (_set("gpu", "a\nb", 1), "gpu: expected str, printable and not empty, got 'a\\nb'"),
    ],
)
def test_what_does_not_make_sense_is_refused(plan: Path, change: Callable[[Document], None], says: str) -> None:
    document = json.loads(sidecar_path(plan).read_text())
    change(document)
    sidecar_path(plan).write_text(json.dumps(document))
    with pytest.raises(ArtefactError) as refused:
        read_sidecar(plan)
    assert says in str(refused.value)
    assert str(refused.value).startswith(str(sidecar_path(plan)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"format": NaN}', b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000, b" " * (1 << 20)]
)
def test_what_is_not_json_is_refused(plan: Path, content: bytes) -> None:
    sidecar_path(plan).write_bytes(content)
    with pytest.raises(ArtefactError, match="damaged or of another version"):
        read_sidecar(plan)


def test_a_missing_sidecar_is_named(plan: Path) -> None:
    sidecar_path(plan).unlink()
    with pytest.raises(EnvironmentFault, match=r"expected its sidecar birds\.plan\.json beside it"):
        read_sidecar(plan)
