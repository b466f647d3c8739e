"""A build where there is a GPU: on stand-ins for it and for TensorRT (stand_in.py says what those show)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import CLASSES, growing_pack

from packnet_deploy.errors import CheckFailed
from packnet_deploy.export import deploy_bank
from packnet_deploy.pack import Pack
from packnet_deploy.trt import build as building
from packnet_deploy.trt import engine as running
from packnet_deploy.trt.build import build_plan, build_plans
from packnet_deploy.trt.flavour import Flavour
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import read_sidecar


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


class OnTheStandIn:
    """Builds on a machine with a GPU, as far as that can be had without: NOT TensorRT's builder, and no GPU.

    The graph itself is the plan, weights as inputs, and the stand-in of ``stand_in`` runs it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spoilt: str = "") -> None:
        """``spoilt``: a weight that this TensorRT's refits leave as it was built, like the Gemm bias of 11.3."""
        self.device = StandInDevice()
        self.trt = StandInTensorRT(self.device, "bind")
        monkeypatch.setattr(building, "find_gpu", lambda index=0: GPU)
        monkeypatch.setattr(building, "make_current", lambda index: None)
        monkeypatch.setattr(building, "load_flavour", lambda name: self.trt.flavour)
        monkeypatch.setattr(running, "load_flavour", lambda name: self.trt.flavour)
        monkeypatch.setattr(running, "expect_gpu", lambda purpose, index=0: GPU)
        monkeypatch.setattr(running, "Device", lambda gpu, index=0: self.device)
        monkeypatch.setattr(Network, "parse", lambda flavour, onnx, marked: OnnxNetwork(flavour, onnx, spoilt))


@dataclass
class OnnxNetwork:
    flavour: Flavour
    onnx: bytes
    spoilt: str
    unmarked: tuple[str, ...] = ()

    def serialise(self, *_: Any, **__: Any) -> bytes:
        model = ModelProto.FromString(self.onnx)
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                if name == self.spoilt:
                    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "lost"))
                    node.input[position] = "lost"
        return model.SerializeToString()


def test_with_a_gpu_every_task_is_run_before_the_files_take_their_names(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = OnTheStandIn(monkeypatch)
    report = build_plan(pack, tmp_path / "x.plan", BuildOptions(switch="bind"))
    assert list(report.differences) == list(CLASSES)
    assert report.notes == ()
    assert (stand_in.trt.loads, stand_in.device.closed) == (1, True)
    assert {file.name for file in tmp_path.iterdir()} == {pack.path.name, "x.plan", "x.plan.json"}
    assert read_sidecar(tmp_path / "x.plan").gpu == GPU


@pytest.mark.parametrize("switch", ["bind", "selector"])
def test_one_build_makes_the_bank_once(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    """For its graph, and for the engine that is then checked, and for the selector's."""
    stand_in, unfolded = OnTheStandIn(monkeypatch), []
    stand_in.trt.switch = switch
    unfold = deploy_bank.unfold_norms_in_place
    monkeypatch.setattr(deploy_bank, "unfold_norms_in_place", lambda *given: unfolded.append(1) or unfold(*given))
    report = build_plan(pack, tmp_path / "x.plan", BuildOptions(switch=switch))
    assert (list(report.differences), len(unfolded)) == (list(CLASSES), 1)


def test_plans_of_each_task_are_made_of_one_bank(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OnTheStandIn(monkeypatch)
    unfolded, unfold = [], deploy_bank.unfold_norms_in_place
    monkeypatch.setattr(deploy_bank, "unfold_norms_in_place", lambda *given: unfolded.append(1) or unfold(*given))
    plans = {task: tmp_path / f"{task}.plan" for task in CLASSES}
    reports = build_plans(pack, plans, BuildOptions(switch="none", verify=False))
    assert [report.sidecar.tasks[0].name for report in reports] == list(CLASSES)
    assert [report.sidecar.classes for report in reports] == list(CLASSES.values())
    assert len(unfolded) == 1


def test_an_engine_that_loses_a_gemm_bias_is_not_kept(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.plan", "x.plan.json"):
        (tmp_path / name).write_text("an older one")
    stand_in = OnTheStandIn(monkeypatch, spoilt="head.bias")
    with pytest.raises(CheckFailed, match=rf"{tmp_path}/x\.plan: task 'one': the engine gives other logits"):
        build_plan(pack, tmp_path / "x.plan", BuildOptions(switch="bind"))
    assert stand_in.device.closed
    assert {file.name for file in tmp_path.iterdir()} == {pack.path.name, "x.plan", "x.plan.json"}
    assert (tmp_path / "x.plan").read_text() == (tmp_path / "x.plan.json").read_text() == "an older one"


def test_no_verify_keeps_it_and_says_so(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = OnTheStandIn(monkeypatch, spoilt="head.bias")
    report = build_plan(pack, tmp_path / "x.plan", BuildOptions(switch="bind", verify=False))
    assert (stand_in.trt.loads, dict(report.differences)) == (0, {})
    assert report.notes == ("not run, as asked for: --no-verify",)


def test_the_tensorrt_that_loses_gemm_biases_is_named(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, switch, named in (
        ("11.3.0.14", "refit", True),
        ("11.3.0.14", "bind", False),
        ("11.30.0.1", "refit", False),
    ):
        stand_in = OnTheStandIn(monkeypatch)
        monkeypatch.setattr(stand_in.trt, "__version__", version, raising=False)
        report = build_plan(pack, tmp_path / "x.plan", BuildOptions(switch=switch, verify=False))
        assert any("known to drop the bias of a linear layer" in note for note in report.notes) is named
