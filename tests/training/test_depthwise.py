"""Depthwise filters that are not packed: shared as normalisation is, or a task's own, from training to every export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import NEW, QUICK, Silent, make_training_small, train
from torch import nn

from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import InputSpec, Pack
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training import backbones
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.parts import depthwise_names
from packnet_deploy.training.start import with_network_first

Coloured = Callable[..., Path]
DEPTHWISE = {"depthwise.weight"}
SPEC = InputSpec((3, 16, 16), (0.5,) * 3, (0.5,) * 3, 18)


def separable(classes: int) -> nn.Module:
    """A depthwise convolution between pointwise ones, as MobileNets have them; and a grouped one, which is none."""
    network = nn.Sequential()
    for name, part in {
        "stem": nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        "norm": nn.BatchNorm2d(8),
        "depthwise": nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        "norm2": nn.BatchNorm2d(8),
        "relu": nn.ReLU(),
        "grouped": nn.Conv2d(8, 16, 1, groups=2),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "head": nn.Linear(16, classes),
    }.items():
        network.add_module(name, part)
    return network


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_small(monkeypatch.setattr)
    monkeypatch.setattr(backbones, "quickstart_network", separable)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(3)
    torch.save(separable(4).state_dict(), tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def grow(path: Path, task: str, data: Path, **changes: Any) -> Pack:
    new = {} if path.exists() else NEW
    options = TrainOptions(task=task, data=str(data), **(new | QUICK | {"lr": 0.1} | changes))
    train(with_network_first([options], path), path, watcher=Silent())
    return Pack.open(path)


def test_what_is_depthwise() -> None:
    assert depthwise_names(separable(2)) == DEPTHWISE
    assert depthwise_names(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 1))) == set()


def test_packed_only_where_they_are_not_a_tasks_own() -> None:
    packed, apart = (PackedNetwork(separable(2), "head", SPEC, depthwise=depthwise) for depthwise in (True, False))
    assert {p.name for p in packed.packable} - {p.name for p in apart.packable} == DEPTHWISE
    assert apart.shared().keys() - packed.shared().keys() == DEPTHWISE


def test_every_added_task_trains_its_own_and_leaves_the_others(
    tmp_path: Path, coloured: Coloured, weights: str
) -> None:
    path = tmp_path / "p.pack"
    given = torch.load(weights)["depthwise.weight"].numpy()
    first = grow(path, "a", coloured("a"), weights=weights).load_task("a").tensors["depthwise.weight"]
    pack = grow(path, "b", coloured("b", classes=3))
    filters = {task: pack.load_task(task).tensors["depthwise.weight"] for task in ("pretrained", "a", "b")}
    assert np.array_equal(filters["pretrained"], given)
    assert np.array_equal(filters["a"], first)
    assert not np.array_equal(filters["a"], given)
    assert not np.array_equal(filters["b"], filters["a"])
    assert all(check.passes for check in verify_pack(pack))


@pytest.mark.parametrize("layout", ["dense", "shared", "selector"])
def test_every_layout_carries_them(tmp_path: Path, coloured: Coloured, weights: str, layout: str) -> None:
    """Each export is checked against the pack before it takes its name."""
    pack = grow(tmp_path / "p.pack", "a", coloured("a"), weights=weights)
    options, tasks = ExportOptions(layout=layout), [entry.name for entry in pack.tasks]
    if layout == "dense":
        report = export_task(pack, "a", tmp_path / "a.onnx", options)
    elif layout == "shared":
        report = export_shared(pack, tasks, tmp_path / "shared", options)
    else:
        report = export_selector(pack, tmp_path / "all.onnx", options)
    assert report.differences["a"].passes


def test_a_pack_that_has_packed_them_goes_on_so(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    """As the paper's protocol does, and packs that are older than the choice."""
    path = tmp_path / "p.pack"
    pack = grow(path, "a", coloured("a"), weights=weights, separate=("none",))
    assert {param.name for param in pack.packable} >= DEPTHWISE
    kept = pack.load_task("a").tensors["depthwise.weight"]
    pack = grow(path, "b", coloured("b", classes=3))
    assert np.array_equal(pack.load_task("a").tensors["depthwise.weight"], kept)
    assert all(check.passes for check in verify_pack(pack))


def test_shared_ones_stay_still(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    """Not packed, since the pack began so, and not this task's own."""
    path = tmp_path / "p.pack"
    grow(path, "a", coloured("a"), weights=weights)
    pack = grow(path, "b", coloured("b", classes=3), separate=("norm",))
    base, task = (pack.load_task(name).tensors for name in ("pretrained", "b"))
    assert np.array_equal(task["depthwise.weight"], base["depthwise.weight"])
    assert not np.array_equal(task["norm.weight"], base["norm.weight"])
