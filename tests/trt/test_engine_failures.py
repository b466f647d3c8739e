"""What goes wrong: refits that stop, plans that do not fit, a GPU that fails.

On stand-ins for TensorRT and the GPU (stand_in.py).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_in import (
    StandInDevice,
    StandInEngine,
    StandInRefitter,
    StandInTensorRT,
    StandInWeights,
)
from stand_in_engines import Bench
from stand_in_plans import write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.sidecar import write_sidecar


def test_a_refit_that_stops_half_way_loads_the_plan_again(bench: Bench) -> None:
    with bench.load("refit") as engine:
        engine.set_task("one")
        bench.trt.refuses = engine.sidecar.weights[2].name
        with pytest.raises(ArtefactError, match=r"other weights \(.*\): Refitting failed at .*; build the plan again"):
            engine.set_task("two")
        assert engine.task is None
        assert bench.trt.loads == 2
        with pytest.raises(UsageError, match="none is set"):
            engine.infer(bench.images)
        engine.set_task("two")
        bench.expect(engine, "two")


def test_an_error_of_the_gpu_during_a_refit_loads_the_plan_again(bench: Bench) -> None:
    with bench.load("refit") as engine:
        engine.set_task("one")
        bench.device.fails_next = True
        with pytest.raises(EnvironmentFault, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            engine.set_task("two")
        assert bench.trt.loads == 2
        engine.set_task("one")
        bench.expect(engine, "one")


def test_a_plan_that_changed_in_the_meantime_is_not_loaded_again(bench: Bench) -> None:
    with bench.load("refit") as engine:
        bench.plan.write_bytes(b"something else")
        bench.trt.refuses = engine.sidecar.weights[0].name
        with pytest.raises(ArtefactError, match="size in bytes: expected"):
            engine.set_task("two")
        assert bench.trt.loads == 1
        with pytest.raises(ArtefactError, match="size in bytes: expected"):
            engine.set_task("one")
        write_plan(bench.plan, bench.pack, "refit")
        engine.set_task("one")
        bench.expect(engine, "one")


def test_weights_that_the_sidecar_does_not_name_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.load("refit").close()
    monkeypatch.setattr(StandInTensorRT, "surplus", ["stray.weight"])
    with pytest.raises(ArtefactError, match=r"not in both: stray\.weight"):
        bench.load_again("refit")
    assert bench.device.closed


def test_a_plan_that_tensorrt_does_not_know_is_refused_with_its_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.load("refit").close()
    monkeypatch.setattr(engine_module, "check_plan", lambda *_: b"\xff\xff")
    with pytest.raises(ArtefactError, match="cannot load the plan: a plan of another kind; build"):
        bench.load_again("refit")
    assert bench.device.closed


def test_an_engine_with_other_inputs_is_refused(bench: Bench) -> None:
    bench.load("bind").close()
    with pytest.raises(ArtefactError, match=r"expected the 10 inputs and outputs .* got 2 \(not in both: a\."):
        bench.load_again("refit")  # the engine is a refittable one, the sidecar speaks of bound weights


@pytest.mark.parametrize("switch", ["bind", "refit"])
def test_an_engine_of_other_shapes_is_refused(bench: Bench, switch: str) -> None:
    """The plan is of 6 logits, its sidecar of another build, of 4; no byte of either is damaged."""
    narrow = write_plan(bench.plan, bench.pack, switch)
    wide = write_plan(bench.plan, bench.pack, switch, classes=6)
    write_sidecar(replace(narrow, plan_sha256=wide.plan_sha256, plan_bytes=wide.plan_bytes), bench.plan)
    with pytest.raises(ArtefactError, match=r"tensor 'logits': expected FLOAT \(-1, 4\), .* got .*FLOAT.*\(-1, 6\)"):
        bench.load_again(switch)


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("bind", r"tensor 'b.weight': expected FLOAT \(40, 8, 1, 1\), as its sidecar says, got .*\(50, 8, 1, 1\)"),
        ("refit", r"weight 'b.weight': the sidecar has 320 of fp32, the engine 400 of"),
    ],
)
def test_an_engine_that_reads_past_the_end_of_a_weight_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, switch: str, message: str
) -> None:
    shape, prototype = StandInEngine.get_tensor_shape, StandInRefitter.get_weights_prototype

    def wider_shape(self: StandInEngine, name: str) -> tuple[int, ...]:
        return (50, 8, 1, 1) if name == "b.weight" else shape(self, name)

    def wider_prototype(self: StandInRefitter, name: str) -> StandInWeights:
        return replace(prototype(self, name), size=400) if name == "b.weight" else prototype(self, name)

    monkeypatch.setattr(StandInEngine, "get_tensor_shape", wider_shape)
    monkeypatch.setattr(StandInRefitter, "get_weights_prototype", wider_prototype)
    with pytest.raises(ArtefactError, match=message):
        bench.load(switch)


def test_an_engine_that_writes_past_the_end_of_the_logits_does_not_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInTensorRT, "classes", 6)
    with bench.load("none") as engine:
        for _ in range(2):
            with pytest.raises(ArtefactError, match=r"expected logits \[4, 4\], as the sidecar says, got \[4, 6\]"):
                engine.infer(bench.images)
    assert not any(entry.startswith("run") for entry in bench.device.log)


def test_an_unknown_place_for_the_bank(bench: Bench) -> None:
    with pytest.raises(UsageError, match="bank: expected one of device, host, got 'disk'"):
        bench.load("refit", bank="disk")
    assert bench.device.closed


def test_closing(bench: Bench) -> None:
    engine = bench.load("refit")
    engine.set_task("one")
    assert engine.device_bytes == bench.device.allocated > 0
    engine.close()
    engine.close()
    assert bench.device.closed
    assert engine.task is None
    with pytest.raises(RuntimeError, match="closed"):
        engine.infer(bench.images)


def test_without_a_gpu_nothing_is_loaded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(bench.plan, bench.pack, "bind")
    trt = StandInTensorRT(StandInDevice(), "bind")
    monkeypatch.setattr(engine_module, "load_flavour", lambda name: trt.flavour)
    monkeypatch.setattr("packnet_deploy.trt.gpu.find_gpu", lambda index=0: None)
    with pytest.raises(EnvironmentFault, match="running an engine needs an NVIDIA GPU"):
        Engine.load(bench.plan, bench.pack)
    assert trt.loads == 0
