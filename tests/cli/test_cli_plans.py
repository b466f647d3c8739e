"""`packnet bench` and `packnet export --format triton` with plans, on a machine without a GPU."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import write_plan

from packnet_deploy.cli import description
from packnet_deploy.pack import Pack
from packnet_deploy.trt import engine, flavour, loader
from packnet_deploy.trt.gpu import find_gpu

Packnet = Callable[..., Any]


def refused(packnet: Packnet, code: int, says: str, *arguments: object) -> None:
    result = packnet(*arguments)
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_a_plan_in_a_triton_repository(packnet: Packnet, here: Path) -> None:
    pack = Pack.open(here / "golden.pack")
    for task in ("birds", "flowers"):
        write_plan(here / f"{task}.plan", pack, "none", task=task)
    result = packnet("export", "--format", "triton", "--plan", "birds.plan", "--plan", "flowers.plan")
    assert result.code == 0, result.err
    assert "TensorRT 10.13" in result.out
    assert sorted(path.name for path in (here / "models").iterdir()) == ["birds", "flowers"]
    assert (here / "models/flowers/1/model.plan").read_bytes() == (here / "flowers.plan").read_bytes()
    again = packnet("export", "--format", "triton", "--plan", "birds.plan", "-o", "models")
    assert again.code == 0
    assert (here / "models/birds/2/model.plan").is_file()


def test_plans_that_triton_does_not_take(packnet: Packnet, here: Path) -> None:
    write_plan(here / "all.plan", Pack.open(here / "golden.pack"), "refit")
    plan = ("--plan", "all.plan")
    triton = ("export", "--format", "triton", *plan)
    refused(packnet, 2, "all.plan: expected a plan of one task, got one with switch refit", *triton)
    refused(packnet, 2, "--plan: only --format triton takes plans", "export", *plan)
    refused(packnet, 2, "leave them out", *triton, "--all-tasks")
    refused(packnet, 2, "--precision: a plan is taken as it is", *triton, "--precision", "fp16")
    refused(packnet, 3, "gone.plan: expected a plan", "export", "--format", "triton", "--plan", "gone.plan")
    assert not (here / "models").exists()


def test_the_layers_of_a_plan_and_what_each_takes(
    packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stand-ins for TensorRT and the GPU: with the pack the plan is run as well."""
    layers = [{"Name": f"conv{n}", "LayerType": "Conv", "TacticName": f"kernel_{n}"} for n in (1, 2)]
    monkeypatch.setattr(StandInTensorRT, "inspection", json.dumps({"Layers": layers}))
    write_plan(here / "all.plan", Pack.open(here / "golden.pack"), "bind")
    monkeypatch.setattr(description, "PLAN_MAGIC", ((here / "all.plan").read_bytes()[:4],))  # the stand-in's are ONNX
    for module in (engine, loader):
        monkeypatch.setattr(module, "load_flavour", lambda name: trt.flavour)
        monkeypatch.setattr(module, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engine, "Device", lambda gpu, index=0: trt.device)
    for more, ms in (((), None), (("--pack", "golden.pack"), 0.5)):
        trt = StandInTensorRT(StandInDevice(), "bind")
        found = json.loads(packnet("inspect", "all.plan", "--layers", *more, "--json").out)["layers"]
        assert [(one["name"], one["tactic"], one["ms"]) for one in found] == [
            ("conv1", "kernel_1", ms),
            ("conv2", "kernel_2", ms),
        ]
        trt = StandInTensorRT(StandInDevice(), "bind")
        shown = packnet("inspect", "all.plan", "--layers", *more).out
        assert ("50.0 %" in shown) == (ms is not None), shown  # each is half of it
    refused(packnet, 2, "--pack: only a plan's --layers takes it", "inspect", "golden.pack", "--pack", "golden.pack")


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here")
def test_without_a_gpu_bench_refuses_plans_in_one_line(
    packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(here / "all.plan", Pack.open(here / "golden.pack"), "bind")
    if importlib.util.find_spec("tensorrt") is None:
        refused(packnet, 3, "pip install 'packnet-deploy[tensorrt]'", "bench", "all.plan")
        monkeypatch.setitem(flavour.MODULES, "tensorrt", "json")  # as if it were there
    says = "measuring an engine needs an NVIDIA GPU and its driver" if importlib.util.find_spec("cuda") else "cuda"
    refused(packnet, 3, says, "bench", "all.plan")
    refused(packnet, 3, says, "bench", "--backend", "onnxruntime", "--backend", "tensorrt")
