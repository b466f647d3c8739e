"""What a build would refit, asked of the real TensorRT-RTX, and the memory that weights would take."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from export_networks import pack_of
from stand_in_plans import first_tasks, growing_pack
from torch_networks import torchvision_network

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack import Pack
from packnet_deploy.trt import dry_run as dry_runs
from packnet_deploy.trt import flavour as flavours
from packnet_deploy.trt.dry_run import dry_run
from packnet_deploy.trt.flavour import load_flavour
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.placement import gpu_bytes, place, sizes_of

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
    norms = {name for name in marks if name.endswith((".scale", ".shift"))}
    assert set(marks) == {param.name for param in pack.packable} | HEAD | norms
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
    found = dry_run(pack, BuildOptions(precision="fp16", switch="bind", channels_last=True, batch_profiles=(1,)))
    assert (found.asked, {one.marked for one in found.weights}) == ("", {None})
    assert {one.weight.name: one.bytes for one in found.weights}["b.weight"] == 2 * 40 * 8
    bank = engine_graph(pack, BuildOptions(precision="fp16")).bank
    packed, ranks = 2 * (8 * 3 * 9 + 40 * 8), 8 * 3 * 9 + 40 * 8
    own = 2 * (4 * 40 + 4 + 2 * (8 + 40))  # a head of four classes, scales and shifts
    narrower = 2 * (4 - 2 + 4 - 3) * (40 + 1)  # heads of two and of three classes, where a plan has one task
    assert found.model == packed + own + 2 * 40  # and a bias that all share
    memory = {(way.switch, way.bank): way.memory for way in found.ways}
    assert {len(counts) for counts in memory.values()} == {3}
    assert memory["none", ""][2] == 3 * found.model - narrower
    assert memory["selector", ""][1] == packed + 2 * 40 + ranks + 2 * own
    for way in found.ways:
        assert sum(way.parts.values()) == way.memory[-1]
    for switch, where in (("bind", "host"), ("refit", "device")):
        for tasks in (1, 2, 3):
            sizes = sizes_of(bank, tasks)
            assert memory[switch, where][tasks - 1] == sum(
                gpu_bytes(sizes, switch, place(sizes, switch, where)).values()
            )
    assert found.recommended.startswith("--switch bind, the bank on the host: ")
    alone = dry_run(first_tasks(pack, 1), BuildOptions(precision="fp16"))
    assert alone.recommended.startswith("--switch none: a plan for each of 1 tasks takes 1.00 models, no more than one")


def test_a_dry_run_counts_what_switches_move(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: None)
    steps = {(step.source, step.target): step for step in dry_run(pack, BuildOptions(precision="fp16")).steps}
    assert set(steps) == set(permutations((1, 2, 3), 2))
    owned = {task: sum(int((owner == task).sum()) for owner in pack.bank().owners.values()) for task in (1, 2, 3)}
    assert (steps[1, 3].weights, steps[1, 3].values) == (owned[2] + owned[3], 2 * (owned[2] + owned[3]))
    assert (steps[3, 1].weights, steps[3, 1].values) == (owned[2] + owned[3], 0)
    assert steps[3, 1].positions == steps[1, 3].positions == 2 * steps[1, 2].positions == 2 * (1024 + 8)
    assert {step.launches for step in steps.values()} == {2}
    assert steps[1, 2].given == 2 * (8 * 3 * 9 + 40 * 8) + 2 * (4 * 40 + 4 + 2 * (8 + 40))  # all of it differs
    assert all(step.groups > 1 for step in steps.values())


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 4, 8])
def test_resnet50_in_half_precision_takes_at_most_1_2_models(tmp_path: Path, tasks: int) -> None:
    """The goal: any number of tasks up to eight, the bank on the host, 1,000 classes each."""
    shares = {f"task{index}": 0.5 for index in range(tasks)}
    pack = pack_of(tmp_path / "net.pack", torchvision_network("resnet50", "fc", 64), shares)
    found = dry_run(pack, BuildOptions(backend="tensorrt", precision="fp16"))
    assert 51e6 < found.model < 52e6
    for way in found.ways:
        if way.bank == "host":
            assert all(count <= 1.2 * found.model for count in way.memory), way
