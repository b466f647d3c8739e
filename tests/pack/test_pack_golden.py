"""The committed golden pack: every figure of expected.json is what reading it gives, and writing it again gives it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pack_worlds import contents

from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.pack.tensorfile import TensorFile
from packnet_deploy.runners.session import open_session

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def make_golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_reading_gives_the_expected_figures(golden: Path, golden_expected: dict[str, Any]) -> None:
    pack = Pack.open(golden)
    assert digest(probe_batch(pack.input)) == golden_expected["probe_sha256"]
    assert [task.name for task in pack.tasks] == list(golden_expected["tasks"])
    bank = pack.bank()
    for entry in pack.tasks:
        expected = golden_expected["tasks"][entry.name]
        loaded = pack.load_task(entry.name)
        for name, value in expected["materialised"].items():
            assert digest(loaded.tensors[name]) == value
            assert digest(bank.materialise(entry.index)[name]) == value
        owners = pack.bank(entry.index).owners
        assert {name: digest(owner) for name, owner in owners.items()} == expected["owners"]
        owned = {name: int((owner == entry.index).sum()) for name, owner in bank.owners.items()}
        assert owned == expected["owned"]
        assert loaded.input == pack.task_input(entry.name)
        assert loaded.input.to_json() == expected["input"]
        header = pack.header(entry.name)
        assert header.frozen_sha256 == bank.sha256(entry.index - 1) == expected["frozen_sha256"]
        assert np.abs(loaded.probe_logits - np.array(expected["logits"])).max() < 1e-6
        assert (entry.classes, header.classes, header.report) == (
            len(expected["logits"][0]),
            loaded.classes,
            {"note": "golden"},
        )


def test_the_golden_pack_has_what_readers_must_be_tested_on(golden: Path) -> None:
    pack = Pack.open(golden)
    with pack.opened() as opened:
        (shapes, _), (birds, header), (flowers, _) = opened.chain.deltas
        assert "mask/fire.squeeze.weight" not in shapes.entries  # takes everything: no mask
        assert birds.entries["values/conv1.weight"].dtype.name == "bfloat16"
        assert birds.entries["values/fire.squeeze.weight"].shape == (0,)  # nothing left to take
        assert "own/fire.expand.bias" in flowers.entries
        assert header.classes == ("Rotkehlchen", "Mönchsgrasmücke")
    loaded = pack.load_task("flowers").tensors["fire.expand.bias"]
    assert loaded.tolist() != pack.bank().shared["fire.expand.bias"].tolist()
    assert all(param.size % 2 for param in pack.packable)


def test_writing_it_again_gives_the_same_bytes(
    make_golden: ModuleType, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_golden, "HERE", tmp_path)
    make_golden.main()
    assert contents(tmp_path / "three_tasks.pack") == contents(golden)
    assert (tmp_path / "expected.json").read_bytes() == (GOLDEN / "expected.json").read_bytes()


def test_onnx_runtime_gives_the_probe_logits(golden: Path) -> None:
    pack = Pack.open(golden)
    session = open_session(pack.graph_bytes(), threads=1)
    for entry in pack.tasks:
        loaded = pack.load_task(entry.name)
        (logits,) = session.run(["logits"], {"images": probe_batch(pack.input), **loaded.tensors})
        assert logits.shape == (4, entry.classes)
        assert np.abs(logits - loaded.probe_logits).max() <= 1e-4 * np.abs(loaded.probe_logits).max()


def test_another_tasks_weights_do_not_give_them(golden: Path) -> None:
    """The probe tells tasks apart: a reader that confuses two owner maps is caught."""
    pack = Pack.open(golden)
    session = open_session(pack.graph_bytes(), threads=1)
    bank = pack.bank()
    for entry in pack.tasks:
        loaded = pack.load_task(entry.name)
        for other in {1, 2, 3} - {entry.index}:
            feeds = {"images": probe_batch(pack.input), **loaded.tensors, **bank.materialise(other)}
            (logits,) = session.run(["logits"], feeds)
            assert np.abs(logits - loaded.probe_logits).max() > 1e-2 * np.abs(loaded.probe_logits).max()


def test_listing_reads_pack_json_only(golden_copy: Path) -> None:
    for path in golden_copy.rglob("*"):
        if path.is_file() and path.name != "pack.json":
            path.unlink()
    pack = Pack.open(golden_copy)
    assert [(task.name, task.index, task.classes, task.bytes) for task in pack.tasks] == [
        ("shapes", 1, 3, 2285),
        ("birds", 2, 2, 1376),
        ("flowers", 3, 5, 2033),
    ]


def test_pack_json_is_written_as_it_was_read(golden: Path) -> None:
    assert Pack.open(golden).manifest.to_bytes() == (golden / "pack.json").read_bytes()


def test_metadata_is_as_the_format_says(golden: Path) -> None:
    manifest = json.loads((golden / "pack.json").read_bytes())
    parent = ""
    for task in manifest["tasks"]:
        with TensorFile(golden / task["file"]) as file:
            assert file.metadata.keys() == {
                *("format", "version", "task", "index", "classes", "parent", "graph_sha256", "input_sha256"),
                *("frozen_sha256", "report"),
                *(["input"] if task["name"] == "flowers" else []),
            }
            assert file.metadata["parent"] == parent
            assert file.metadata["graph_sha256"] == manifest["graph"]["sha256"]
        data = (golden / task["file"]).read_bytes()
        parent = hashlib.sha256(data).hexdigest()
        assert (parent, len(data)) == (task["sha256"], task["bytes"])
