"""An engine on stand-ins for TensorRT and the GPU (stand_in.py says what that shows, and what not)."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import SHARES, first_tasks, growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.pack import probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.sidecar import Batch, write_sidecar

TASKS = tuple(SHARES)


class Bench:
    """A pack, a plan of it, and engines that stand-ins run."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pack = growing_pack(folder / "tiny.pack")
        self.plan = folder / "tiny.plan"
        self.images = probe_batch(self.pack.input)
        self._monkeypatch = monkeypatch

    def load(
        self, switch: str, *, built_with: int = 3, bank: str = "device", cuda_graph: bool = False, **plan
    ) -> Engine:
        """Write a plan of the pack's first tasks, and load it with the whole pack."""
        write_plan(self.plan, first_tasks(self.pack, built_with), switch, **plan)
        return self.load_again(switch, bank=bank, cuda_graph=cuda_graph)

    def load_again(self, switch: str, **options) -> Engine:
        self.device = StandInDevice()
        self.trt = StandInTensorRT(self.device, switch)
        self._monkeypatch.setattr(engine_module, "load_flavour", lambda name: self.trt.flavour)
        self._monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose: GPU)
        self._monkeypatch.setattr(engine_module, "Device", lambda gpu: self.device)
        return Engine.load(self.plan, self.pack, **options)

    def expect(self, engine: Engine, task: str, precision: str = "fp32") -> None:
        """The engine's logits of the probe batch are those of the pack."""
        expected = self.pack.load_task(task).probe_logits
        difference = compare(engine.infer(self.images), expected, PRECISIONS[precision].tolerance)
        assert difference.passes, f"{task}: {difference}"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("bank", ["device", "host"])
@pytest.mark.parametrize("switch", ["refit", "bind"])
def test_every_task_in_any_order(bench: Bench, switch: str, bank: str, precision: str) -> None:
    with bench.load(switch, bank=bank, precision=precision) as engine:
        assert engine.tasks == TASKS
        assert engine.task is None
        for task in ("three", "one", "two", "one", "three"):
            engine.set_task(task)
            assert engine.task == task
            bench.expect(engine, task, precision)


def test_the_selector(bench: Bench) -> None:
    with bench.load("selector") as engine:
        for task in ("three", "one", "two"):
            engine.set_task(task)
            bench.expect(engine, task)


def test_a_plan_of_one_task_is_that_task(bench: Bench) -> None:
    with bench.load("none") as engine:
        assert (engine.tasks, engine.task) == (("one",), "one")
        bench.expect(engine, "one")
        engine.set_task("one")
        with pytest.raises(UsageError, match="expected one of one, got 'two'"):
            engine.set_task("two")
        assert engine.task == "one"


@pytest.mark.parametrize("switch", ["refit", "bind"])
def test_tasks_trained_after_the_build_need_no_new_plan(bench: Bench, switch: str) -> None:
    with bench.load(switch, built_with=2) as engine:
        for task in ("three", "one"):
            engine.set_task(task)
            bench.expect(engine, task)


def test_any_number_of_images(bench: Bench) -> None:
    """Of 11 images the plan takes at most 4 and at least 3 at once: two parts of 4, and 3."""
    with bench.load("bind", batch=Batch(3, 3, 4)) as engine:
        bench.trt.batch = (3, 4)
        engine.set_task("two")
        images = np.random.default_rng(0).standard_normal((11, *engine.sidecar.input.shape), dtype=np.float32)
        alone = engine.infer(images[:1])
        bench.device.log.clear()
        together = engine.infer(images)
        assert together.shape == (11, 2)
        assert together.dtype == np.float32
        assert [entry for entry in bench.device.log if entry.startswith("run")] == ["run 4", "run 4", "run 3"]
        np.testing.assert_allclose(alone, together[:1], rtol=1e-5, atol=1e-5)
        for count in (1, 2, 3, 5, 10):
            np.testing.assert_allclose(engine.infer(images[:count]), together[:count], rtol=1e-5, atol=1e-5)
        every_other = images[::2]
        np.testing.assert_allclose(engine.infer(every_other), together[::2], rtol=1e-5, atol=1e-5)


def test_another_image_size(bench: Bench) -> None:
    with bench.load("bind", image_size=9) as engine:
        engine.set_task("two")
        assert engine.infer(np.zeros((1, 3, 9, 9), np.float32)).shape == (1, 2)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 3, 5, 6)), np.zeros((3, 5, 6), np.float32), np.zeros((0, 3, 5, 6), np.float32)],
    ids=["float64", "no batch", "none"],
)
def test_images_of_another_kind_are_refused(bench: Bench, images: np.ndarray) -> None:
    with bench.load("none") as engine, pytest.raises(UsageError, match=r"expected float32 \[n, 3, 5, 6\], got"):
        engine.infer(images)


def test_no_task_no_logits(bench: Bench) -> None:
    with bench.load("refit") as engine:
        with pytest.raises(UsageError, match="task: none is set; call set_task with one of one, two, three"):
            engine.infer(bench.images)
        with pytest.raises(UsageError, match="expected one of one, two, three, got 'four'"):
            engine.set_task("four")


# ---- the order of calls --------------------------------------------------------------------------------------------


def test_a_refit_in_order(bench: Bench) -> None:
    """Addresses are given once; a switch drains the stream, masks, copies, scales, refits and waits."""
    with bench.load("refit") as engine:
        log = bench.device.log
        assert [entry for entry in log if entry.startswith("set")] == [
            f"set {weight.name}" for weight in engine.sidecar.weights
        ]
        assert log.index("deserialise") < log.index(f"set {engine.sidecar.weights[0].name}")
        log.clear()
        engine.set_task("one")
        assert log == ["synchronise", "mask 1", "upload", "refit", "synchronise"]
        log.clear()
        engine.set_task("three")
        assert log == ["synchronise", "mask 3", "upload", "upload", "scale", "scale", "refit", "synchronise"]
        log.clear()
        engine.set_task("three")
        assert log == []
        engine.infer(bench.images[:1])
        assert log == ["upload", "run 1", "download", "synchronise"]


def test_binding_and_selecting_in_order(bench: Bench) -> None:
    with bench.load("bind") as engine:
        bench.device.log.clear()
        engine.set_task("two")
        assert bench.device.log == ["synchronise", "mask 2", "upload", "upload", "scale", "scale", "synchronise"]
    with bench.load("selector") as engine:
        bench.device.log.clear()
        engine.set_task("two")
        assert bench.device.log == ["synchronise", "upload", "synchronise"]


def test_a_graph_is_captured_when_a_size_comes_twice_and_never_outlives_a_refit(bench: Bench) -> None:
    def runs() -> list[str]:
        engine.infer(bench.images[:2])
        seen = [entry for entry in bench.device.log if entry.startswith(("run", "capture", "replay"))]
        bench.device.log.clear()
        return seen

    with bench.load("refit", cuda_graph=True) as engine:
        engine.set_task("one")
        assert [runs(), runs(), runs()] == [["run 2"], ["capture", "run 2", "replay"], ["replay"]]
        bench.expect(engine, "one")
        assert bench.device.log.count("run 4") == 1  # another size: TensorRT itself
        bench.device.log.clear()
        assert [runs(), runs(), runs()] == [["run 2"], ["capture", "run 2", "replay"], ["replay"]]
        engine.set_task("two")
        assert runs() == ["run 2"]
    with bench.load("bind", cuda_graph=True) as engine:
        engine.set_task("one")
        runs(), runs()
        engine.set_task("two")
        assert runs() == ["replay"]
        np.testing.assert_allclose(
            engine.infer(bench.images[:2]), bench.pack.load_task("two").probe_logits[:2], rtol=1e-4, atol=1e-4
        )


def test_running_again_copies_nothing(bench: Bench) -> None:
    with bench.load("none") as engine:
        with pytest.raises(UsageError, match="call infer first"):
            engine.run_again()
        engine.infer(bench.images)
        bench.device.log.clear()
        engine.run_again()
        assert bench.device.log == ["run 4", "synchronise"]


# ---- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_refit_that_stops_half_way_loads_the_plan_again(bench: Bench) -> None:
    with bench.load("refit") as engine:
        engine.set_task("one")
        bench.trt.refuses = engine.sidecar.weights[2].name
        with pytest.raises(ArtefactError, match=r"weights of task 'two': Refitting failed at .*; build the plan again"):
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
    with pytest.raises(ArtefactError, match=r"expected the 8 inputs and outputs .* got 2 \(not in both: a\."):
        bench.load_again("refit")  # the engine is a refittable one, the sidecar speaks of bound weights


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("bind", r"tensor 'head.weight': expected FLOAT \(4, 40\), as its sidecar says, got .*FLOAT.*\(6, 40\)"),
        ("refit", r"weight 'head.weight': the sidecar has 160 of fp32, the engine 240 of"),
    ],
)
def test_an_engine_that_reads_past_the_end_of_a_weight_is_refused(bench: Bench, switch: str, message: str) -> None:
    """The plan is of 6 logits, its sidecar of another build, of 4; no byte of either is damaged."""
    narrow = write_plan(bench.plan, bench.pack, switch)
    wide = write_plan(bench.plan, bench.pack, switch, classes=6)
    write_sidecar(replace(narrow, plan_sha256=wide.plan_sha256, plan_bytes=wide.plan_bytes), bench.plan)
    with pytest.raises(ArtefactError, match=message):
        bench.load_again(switch)


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


def test_threads_that_share_an_engine_never_meet_half_way(bench: Bench) -> None:
    """Two threads switch and infer; whatever task a request meets, its logits are that task's and none in between."""
    failures: list[str] = []
    with bench.load("bind") as engine:
        known = {}
        for task in ("two", "three"):
            engine.set_task(task)
            known[task] = engine.infer(bench.images)

        def work(task: str) -> None:
            for _ in range(30):
                engine.set_task(task)
                logits = engine.infer(bench.images)
                if not any(logits.shape == k.shape and np.allclose(logits, k, atol=1e-5) for k in known.values()):
                    failures.append(task)

        threads = [threading.Thread(target=work, args=(task,)) for task in known]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_without_a_gpu_nothing_is_loaded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(bench.plan, bench.pack, "bind")
    trt = StandInTensorRT(StandInDevice(), "bind")
    monkeypatch.setattr(engine_module, "load_flavour", lambda name: trt.flavour)
    monkeypatch.setattr("packnet_deploy.trt.gpu.find_gpu", lambda: None)
    with pytest.raises(EnvironmentFault, match="running an engine needs an NVIDIA GPU"):
        Engine.load(bench.plan, bench.pack)
    assert trt.loads == 0
