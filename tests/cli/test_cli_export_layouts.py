"""``packnet export`` in its layouts and precisions, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Packnet = Callable[..., Any]


def test_a_shared_folder_grows(packnet: Packnet, here: Path) -> None:
    first = packnet("export", "--layout", "shared", "--task", "birds")
    assert first.code == 0, first.err
    folder = here / "golden.shared"
    assert sorted(path.name for path in folder.iterdir()) == ["bank.bin", "birds.onnx", "owners.bin"]
    assert packnet("export", "--layout", "shared", "--all-tasks").code == 0
    assert len(list(folder.glob("*.onnx"))) == 3


def test_a_selector_holds_all_tasks(packnet: Packnet, here: Path) -> None:
    result = packnet("export", "--layout", "selector", "--engine", "tensorrt", "--precision", "fp16")
    assert result.code == 0, result.err
    assert "shapes, birds, flowers" in result.out
    model = onnx.load(here / "golden.onnx")
    assert [value.name for value in model.graph.input] == ["images", "task"]
    refused = packnet("export", "--layout", "selector", "--task", "birds")
    assert refused.code == 2
    assert "a selector holds every task" in refused.err


def test_batch_opset_and_image_size(packnet: Packnet, here: Path) -> None:
    flags = ("--batch", "2", "--opset", "21", "--image-size", "32", "--no-verify")
    result = packnet("export", "--task", "birds", *flags)
    assert result.code == 0, result.err
    assert "not checked" in result.out
    model = onnx.load(here / "birds.onnx")
    assert model.opset_import[0].version == 21
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 32, 32]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--precision", "fp8"), "precision: expected one of fp32, fp16, bf16"),
        (("--batch", "many"), "batch: expected a number"),
        (("--opset", "3"), "opset: expected 17"),
        (("--layout", "shared", "-o", "golden.pack/pack.json"), "expected a folder, got a file"),
        (("--layout", "sparse", "--precision", "bf16"), "sparse bf16"),
    ],
)
def test_refusals_are_one_line(packnet: Packnet, here: Path, arguments: tuple[str, ...], says: str) -> None:
    before = sorted(here.rglob("*"))
    result = packnet("export", "--task", "birds", *arguments)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert sorted(here.rglob("*")) == before


def test_a_tolerance_too_tight_is_a_failed_check(packnet: Packnet, here: Path) -> None:
    result = packnet("export", "--task", "birds", "--precision", "bf16", "--rtol", "1e-9")
    assert result.code == 1
    assert "1e-09 of their scale" in result.err
    assert not (here / "birds.onnx").exists()
    assert packnet("export", "--task", "birds", "--precision", "bf16", "--rtol", "1e-9", "--atol", "1").code == 0


def test_bench_takes_a_selector(packnet: Packnet, here: Path) -> None:
    assert packnet("export", "--layout", "selector").code == 0
    result = packnet("bench", "golden.onnx", "--batch-size", "1", "--repeats", "1", "--seconds", "0.1", "--json")
    assert result.code == 0, result.err
    assert '"flowers"' in result.out


def test_bench_of_a_pack_compares_all_ways_and_recommends_one(packnet: Packnet, here: Path) -> None:
    flags = ("--batch-size", "1", "--repeats", "5", "--seconds", "0.1")
    result = packnet("bench", "--task", "birds", "--task", "shapes", *flags, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    names = [way["name"] for way in found["ways"]]
    assert names == ["reload", "together", "shared", "mapped", "selector"]
    assert found["recommended"].split()[0] in names
