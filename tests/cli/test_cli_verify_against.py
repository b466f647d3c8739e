"""``packnet verify --against``: exports compared with the pack itself and with PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Packnet = Callable[..., Any]


@pytest.mark.parametrize("layout", ["dense", "sparse", "shared", "selector"])
def test_every_layout_against_the_pack(packnet: Packnet, here: Path, layout: str) -> None:
    result = packnet("verify", "--against", "onnxrt", "--layout", layout, "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["tasks"]
    assert [row["task"] for row in rows] == ["shapes", "birds", "flowers"]
    assert all(row["passes"] and row["top1"] == 1.0 and row["max_difference"] <= row["allowed"] for row in rows)


def test_one_task_as_a_table(packnet: Packnet, here: Path) -> None:
    result = packnet("verify", "--against", "onnxrt", "--task", "birds", "--precision", "fp16")
    assert result.code == 0, result.err
    assert "birds" in result.out
    assert "100.0 %" in result.out
    assert "flowers" not in result.out


def test_a_difference_is_exit_1(packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from packnet_deploy.runners.pack import PackRunner

    real = PackRunner.infer
    monkeypatch.setattr(PackRunner, "infer", lambda *arguments: real(*arguments) + 1)
    result = packnet("verify", "--against", "onnxrt")
    assert result.code == 1
    assert "shapes: logits differ by up to 1" in result.err
    assert "FAILED" in result.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--layout", "shared"), "--layout: only a comparison takes it; say --against"),
        (("--task", "birds"), "--task: only a comparison takes it"),
        (("--against", "torch"), "not one packnet can build; use --against onnxrt"),
        (("--against", "onnxrt", "--task", "cars"), "its tasks: shapes, birds, flowers"),
        (("--against", "onnxrt", "--layout", "round"), "layout: expected one of"),
    ],
)
def test_refusals(packnet: Packnet, here: Path, arguments: tuple[str, ...], says: str) -> None:
    result = packnet("verify", *arguments)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_every_layout_against_torch(packnet: Packnet, here: Path) -> None:
    torch = pytest.importorskip("torch", reason="comparing with PyTorch needs PyTorch (extra: train)")
    from packnet_deploy.pack import Backbone, InputSpec, append_task, create_pack
    from packnet_deploy.training.backbones import QUICKSTART, build
    from packnet_deploy.training.network import PackedNetwork
    from packnet_deploy.training.trace import trace_skeleton

    torch.manual_seed(0)
    module, head = build(QUICKSTART, 3)
    network = PackedNetwork(module, head, InputSpec((3, 32, 32), (0.5,) * 3, (0.25,) * 3, 32))
    network.begin("one", ["a", "b", "c"])
    network.prune(0.5)
    network.freeze()
    graph = trace_skeleton(module, head, network.spec).SerializeToString(deterministic=True)
    pack = create_pack(
        "net.pack", Backbone(QUICKSTART, head), network.spec, graph, network.packable, network.new_task()
    )
    network.begin("two", ["d", "e"])
    network.prune(0.5)
    network.freeze()
    append_task(pack, network.new_task())
    for layout in ("dense", "shared", "selector"):
        result = packnet("verify", "--pack", "net.pack", "--against", "torch", "--layout", layout, "--json")
        assert result.code == 0, result.err
        rows = json.loads(result.out)["tasks"]
        assert [(row["task"], row["images"], row["top1"]) for row in rows] == [("one", 4, 1.0), ("two", 4, 1.0)]
