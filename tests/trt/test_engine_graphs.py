"""CUDA graphs, and kernels that are compiled as an engine runs. On stand-ins for TensorRT and the GPU (stand_in.py)."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stand_in import (
    StandInContext,
    StandInEngine,
    StandInTensorRT,
)
from stand_in_engines import Bench
from stand_in_plans import write_plan

from packnet_deploy.errors import UsageError
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import Flavour


def runs(bench: Bench, engine: Engine) -> list[str]:
    """What the device is asked to run for two images."""
    engine.infer(bench.images[:2])
    seen = [entry for entry in bench.device.log if entry.startswith(("run", "capture", "replay"))]
    bench.device.log.clear()
    return seen


@pytest.mark.parametrize("switch", ["refit", "bind"])
def test_a_graph_is_captured_when_a_size_comes_twice(bench: Bench, switch: str) -> None:
    """A refit leaves the graph in doubt: it is captured again, and what was made of it is brought up to date."""
    with bench.load(switch, cuda_graph=True) as engine:
        engine.set_task("one")
        first = [["run 2"], ["capture", "run 2", "replay"], ["replay"]]
        assert [runs(bench, engine) for _ in range(3)] == first
        bench.expect(engine, "one")
        assert bench.device.log.count("run 4") == 1  # another size: TensorRT itself
        bench.device.log.clear()
        assert [runs(bench, engine) for _ in range(3)] == first
        engine.set_task("two")
        again = ["capture again", "run 2", "replay"] if switch == "refit" else ["replay"]
        assert [runs(bench, engine), runs(bench, engine)] == [again, ["replay"]]
        np.testing.assert_allclose(
            engine.infer(bench.images[:2]), bench.pack.load_task("two").probe_logits[:2], rtol=1e-4, atol=1e-4
        )


def test_what_cannot_be_captured_runs_without_and_says_so_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with bench.load("bind", cuda_graph=True) as engine:
        bench.device.refuses_capture = "the CUDA driver says CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
        for task in ("one", "two"):
            engine.set_task(task)
            for _ in range(3):
                bench.expect(engine, task)
        assert bench.device.log.count("capture") == 1
        assert engine.notes == tuple(record.message for record in caplog.records)
    assert [record.message for record in caplog.records] == [
        "CUDA graph: the CUDA driver says CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; running without one"
    ]


def test_the_engine_alone_by_the_gpus_clock_and_layer_by_layer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [{"Name": "conv1 + relu1", "LayerType": "Conv", "TacticName": "some_kernel"}]
    monkeypatch.setattr(StandInTensorRT, "inspection", json.dumps({"Layers": listed}))
    with bench.load("bind") as engine:
        for again in (engine.run_again, engine.time_again, engine.profile):
            with pytest.raises(UsageError, match="none has run yet; call infer first"):
                again()
        engine.infer(bench.images[:2], "two")
        bench.device.log.clear()
        assert engine.time_again() == 0.25
        assert bench.device.log == ["timed", "run 2", "synchronise"]
        assert [(layer.name, layer.ms) for layer in engine.profile(3)] == [("conv1 + relu1", 0.5)]
        assert bench.device.log.count("run 2") == 1 + 3
        engine.set_task("two")
        bench.expect(engine, "two")


def test_tensorrt_is_asked_before_a_capture(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInContext, "is_stream_capturable", lambda self, stream: False, raising=False)
    with bench.load("bind", cuda_graph=True) as engine:
        engine.set_task("one")
        for _ in range(3):
            bench.expect(engine, "one")
        assert "capture" not in bench.device.log


def test_tensorrt_rtx_captures_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through its runtime configuration, which TensorRT does not have."""
    asked = as_tensorrt_rtx(monkeypatch)
    for wanted, expected in ((False, None), (True, ("WHOLE_GRAPH_CAPTURE", "EAGER"))):
        with bench.load("bind", cuda_graph=wanted) as engine:
            engine.set_task("one")
            for _ in range(3):
                bench.expect(engine, "one")
            assert "capture" not in bench.device.log
        assert asked.pop() == expected


class RuntimeCache:
    """Of kernels that TensorRT-RTX has compiled; it refuses one that is of another machine."""

    content = b""

    def deserialize(self, blob: bytes) -> bool:
        if fits := blob.startswith(b"of this machine"):
            self.content = blob
        return fits

    def serialize(self) -> bytes:
        return (self.content or b"of this machine") + b"+"


def as_tensorrt_rtx(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Give TensorRT's stand-in a runtime configuration; returns what contexts are then asked for."""
    graphs = enum.Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
    kernels = enum.Enum("DynamicShapesKernelSpecializationStrategy", "LAZY EAGER")
    asked: list[object] = []

    class Config(SimpleNamespace):
        cuda_graph_strategy, dynamic_shapes_kernel_specialization_strategy = graphs.DISABLED, kernels.LAZY
        create_runtime_cache = RuntimeCache

        def set_runtime_cache(self, cache: RuntimeCache) -> bool:
            asked.append(cache.content)
            return True

    def create_execution_context(self: StandInEngine, config: Config | None = None) -> StandInContext:
        told = config and (config.cuda_graph_strategy, config.dynamic_shapes_kernel_specialization_strategy)
        asked.append(told and tuple(one.name for one in told))
        return StandInContext(self)

    monkeypatch.setattr(StandInTensorRT, "CudaGraphStrategy", graphs, raising=False)
    monkeypatch.setattr(StandInTensorRT, "DynamicShapesKernelSpecializationStrategy", kernels, raising=False)
    monkeypatch.setattr(StandInTensorRT, "flavour", property(lambda self: Flavour("tensorrt-rtx", self)))
    monkeypatch.setattr(StandInEngine, "create_runtime_config", lambda self: Config(), raising=False)
    monkeypatch.setattr(StandInEngine, "create_execution_context", create_execution_context)
    monkeypatch.setattr(engine_module, "check_plan", lambda plan, *_: plan.read_bytes())  # of the other flavour
    return asked


def test_compiled_kernels_are_kept_in_a_file(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = as_tensorrt_rtx(monkeypatch)
    cache = tmp_path / "kernels"
    write_plan(bench.plan, bench.pack, "bind")
    for held, kept in ((b"", b"of this machine+"), (b"of this machine+", b"of this machine++")):
        bench.load_again("bind", runtime_cache=cache).close()
        assert asked[-2:] == [held, ("DISABLED", "LAZY")]
        assert cache.read_bytes() == kept
    cache.write_bytes(b"of another one")
    bench.load_again("bind", runtime_cache=cache).close()
    assert cache.read_bytes() == b"of this machine+"


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    as_tensorrt_rtx(monkeypatch)
    write_plan(bench.plan, bench.pack, "bind")
    bench.load_again("bind", runtime_cache=tmp_path / "gone" / "kernels").close()
    assert bench.device.closed
    assert "cannot be written (No such file or directory)" in caplog.text


def test_tensorrt_compiles_nothing_when_it_runs(bench: Bench, tmp_path: Path) -> None:
    write_plan(bench.plan, bench.pack, "bind")
    with pytest.raises(UsageError, match="runtime cache: tensorrt compiles nothing"):
        bench.load_again("bind", runtime_cache=tmp_path / "kernels")
