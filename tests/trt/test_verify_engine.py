"""The check after a build finds an engine that is wrong. Engines here are ONNX Runtime's, some of them spoilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stand_in_plans import CLASSES, growing_pack, write_plan

from packnet_deploy.errors import CheckFailed
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.pack import Pack
from packnet_deploy.runners.session import open_session, run_session
from packnet_deploy.trt.check import engine_tolerance, verify_engine
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.options import BuildOptions

PLAN = Path("birds.plan")
FP32 = ExportOptions()


class OnnxEngine:
    """An engine as ``bind`` has it, in ONNX Runtime.

    Args:
        loses: a weight that stays zero whatever it is given, as a refit that drops it would leave it.
        sticks: the engine takes the weights of the first switch only.
    """

    def __init__(self, pack: Pack, loses: str = "", sticks: bool = False, image_size: int | None = None) -> None:
        graph = engine_graph(pack, BuildOptions(switch="bind", image_size=image_size))
        self.bank, self.session, self.loses, self.sticks = graph.bank, open_session(graph.onnx), loses, sticks
        self.weights: dict[str, np.ndarray] = {}
        self.switches: list[str] = []

    def set_task(self, name: str) -> None:
        self.switches.append(name)
        self.task = self.bank.task(name)
        if not (self.sticks and self.weights):
            self.weights = self.bank.materialise(self.task)
            if self.loses:
                self.weights[self.loses] = np.zeros_like(self.weights[self.loses])

    def infer(self, images: np.ndarray) -> np.ndarray:
        return run_session(self.session, {"images": images, **self.weights})[:, : len(self.task.classes)]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


def test_a_right_engine_passes_and_is_switched_back(pack: Pack) -> None:
    engine = OnnxEngine(pack)
    differences = verify_engine(engine, pack, tuple(CLASSES), FP32.target(pack), PLAN)
    assert engine.switches == ["one", "two", "three", "one"]
    assert list(differences) == ["one", "two", "three"]
    assert all(difference.passes and difference.scale > 0 for difference in differences.values())


def test_another_image_size_is_held_against_the_packs_graph(pack: Pack) -> None:
    target = ExportOptions(image_size=9).target(pack)
    engine = OnnxEngine(pack, image_size=9)
    assert verify_engine(engine, pack, tuple(CLASSES), target, PLAN)
    engine.loses = "n2.shift"
    with pytest.raises(CheckFailed):
        verify_engine(engine, pack, tuple(CLASSES), target, PLAN)


@pytest.mark.parametrize("lost", ["head.bias", "head.weight", "b.weight", "n1.scale"])
def test_a_lost_weight_is_found(pack: Pack, lost: str) -> None:
    """``head.bias`` is what TensorRT 11.3 loses: the bias of a Gemm."""
    with pytest.raises(CheckFailed, match=r"birds\.plan: task 'one': the engine gives other logits than the pack"):
        verify_engine(OnnxEngine(pack, loses=lost), pack, tuple(CLASSES), FP32.target(pack), PLAN)


def test_a_wider_tolerance_where_one_is_asked_for(pack: Pack) -> None:
    """As for TF32, which an engine in fp32 may be allowed to use."""
    engine = OnnxEngine(pack)
    exact = engine.infer
    engine.infer = lambda images: exact(images) * np.float32(1.001)  # type: ignore[method-assign]
    with pytest.raises(CheckFailed):
        verify_engine(engine, pack, tuple(CLASSES), FP32.target(pack), PLAN)
    assert verify_engine(engine, pack, tuple(CLASSES), FP32.target(pack), PLAN, rtol=1e-2)["one"].passes


def test_an_engine_that_does_not_switch_is_found(pack: Pack) -> None:
    with pytest.raises(CheckFailed, match="task 'two'"):
        verify_engine(OnnxEngine(pack, sticks=True), pack, tuple(CLASSES), FP32.target(pack), PLAN)


def test_how_far_an_engine_may_be_off(pack: Pack, tmp_path: Path) -> None:
    """fp32 and bf16 by their own tolerance, fp16 by depth too, since TensorRT may add up in it; TF32 as fp16."""
    sidecars = {
        precision: write_plan(tmp_path / "x.plan", pack, "bind", precision) for precision in ("fp32", "fp16", "bf16")
    }
    for precision in ("fp32", "bf16"):
        assert engine_tolerance(sidecars[precision], pack) == PRECISIONS[precision].tolerance
    tf32 = replace(sidecars["fp32"], tf32=True)
    assert engine_tolerance(tf32, pack) == PRECISIONS["fp16"].tolerance
    deep = replace(pack, manifest=replace(pack.manifest, packable=pack.packable * 32))  # 64 layers
    assert engine_tolerance(sidecars["fp16"], deep) == pytest.approx(3 * PRECISIONS["fp16"].tolerance)
