"""What a build would refit, asked of the real TensorRT-RTX, and the memory that weights would take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from export_networks import pack_of
from stand_in_plans import growing_pack
from torch_networks import torchvision_network

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack import Pack
from packnet_deploy.trt import dry_run as dry_runs
from packnet_deploy.trt import flavour as flavours
from packnet_deploy.trt.dry_run import dry_run, weight_bytes
from packnet_deploy.trt.flavour import load_flavour
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import BuildOptions

HEAD = {"head.weight", "head.bias"}


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


@pytest.mark.tensorrt
@pytest.mark.parametrize(
    ("name", "head", "size"),
    [
        ("squeezenet1_1", "classifier.1", 64),
        ("mobilenet_v2", "classifier.1", 64),
        pytest.param("resnet50", "fc", 64, marks=pytest.mark.slow),
        pytest.param("densenet121", "classifier", 64, marks=pytest.mark.slow),
        pytest.param("vgg16", "classifier.6", 224, marks=pytest.mark.slow),
    ],
)
def test_every_weight_that_changes_can_be_refitted(name: str, head: str, size: int, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'packnet-deploy[rtx]'")
    pack = pack_of(tmp_path / "net.pack", torchvision_network(name, head, size, narrow=True), {"only": 0.8})
    found = dry_run(pack, BuildOptions(backend="tensorrt-rtx"))
    assert found.asked.startswith("tensorrt-rtx ")
    marks = {one.weight.name: one.marked for one in found.weights}
    assert set(marks) == {param.name for param in pack.packable} | HEAD
    assert all(marks.values())


class WithoutDriver:
    """TensorRT proper on a machine without a GPU, as its users report it."""

    __version__ = "10.13.3.9"

    class ILogger:
        ERROR = 1

    def Builder(self, logger: Any) -> None:
        logger.log(1, "CUDA initialization failure\nwith error: 35.")
        raise TypeError("pybind11::init(): factory function returned nullptr")


@pytest.mark.tensorrt
def test_a_tensorrt_that_does_not_start_is_passed_over(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'packnet-deploy[rtx]'")
    dead = flavours.Flavour("tensorrt", WithoutDriver())
    monkeypatch.setattr(dry_runs, "load_flavour", lambda name: dead if name == "tensorrt" else load_flavour(name))
    assert dry_run(pack, BuildOptions()).asked.startswith("tensorrt-rtx ")
    found = dry_run(pack, BuildOptions(backend="tensorrt"))
    assert (found.asked, {one.marked for one in found.weights}) == ("", {None})


def test_a_tensorrt_that_does_not_start_says_why(pack: Pack) -> None:
    onnx = engine_graph(pack, BuildOptions()).onnx
    with pytest.raises(EnvironmentFault, match=r"tensorrt 10\.13\.3\.9 does not start here \(CUDA .* 35\.\)"):
        Network.parse(flavours.Flavour("tensorrt", WithoutDriver()), onnx, [])


def test_a_dry_run_needs_no_tensorrt_and_counts_bytes(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: None)
    found = dry_run(pack, BuildOptions(precision="fp16"))
    assert (found.asked, {one.marked for one in found.weights}) == ("", {None})
    assert {one.weight.name: one.bytes for one in found.weights}["b.weight"] == 2 * 40 * 8
    assert {name: len(counts) for name, counts in found.memory.items()} == dict.fromkeys(found.memory, 3)
    bank = engine_graph(pack, BuildOptions(precision="fp16")).bank
    packed, ranks = 2 * (8 * 3 * 9 + 40 * 8), 8 * 3 * 9 + 40 * 8
    own = 2 * (4 * 40 + 4 + 8 + 40)  # a head of four classes and both biases
    narrower = 2 * (4 - 2 + 4 - 3) * (40 + 1)  # heads of two and of three classes, where a plan has one task
    assert weight_bytes(bank, "none", 3) == 3 * (packed + own) - narrower
    assert weight_bytes(bank, "selector", 2) == packed + ranks + 2 * own
    assert weight_bytes(bank, "bind", 3) == 2 * packed + ranks + own
    assert weight_bytes(bank, "refit", 3) == 3 * packed + ranks + 2 * own
