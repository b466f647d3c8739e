"""An engine: tasks, images, batches, and what it says of itself.

On stand-ins for TensorRT and the GPU (stand_in.py).
"""

from __future__ import annotations

import enum

import numpy as np
import pytest
from stand_in import (
    StandInDevice,
    StandInEngine,
    StandInTensorRT,
)
from stand_in_engines import TASKS, Bench
from stand_in_plans import write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.trt.loader import LoadedEngine
from packnet_deploy.trt.sidecar import Batch


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


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("resident", [1, 2])
def test_filters_lie_as_the_engine_reads_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, precision: str, resident: int
) -> None:
    monkeypatch.setattr(StandInTensorRT, "channels_last", True)
    with bench.load("bind", precision=precision, resident=resident) as engine:
        for task in ("three", "one", "two", "one", "three"):
            engine.set_task(task)
            bench.expect(engine, task, precision)


def test_a_layout_that_nobody_fills_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    formats = enum.Enum("TensorFormat", "LINEAR HWC CHW32")
    monkeypatch.setattr(StandInTensorRT, "TensorFormat", formats)
    for name, odd in (("a.weight", formats.CHW32), ("images", formats.HWC), ("head.bias", formats.HWC)):
        monkeypatch.setattr(
            StandInEngine, "get_tensor_format", lambda self, asked, n=name, o=odd: o if asked == n else formats.LINEAR
        )
        with pytest.raises(ArtefactError, match=rf"tensor '{name}': expected it to lie in rows or with its channels"):
            bench.load("bind")


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


@pytest.mark.parametrize("built_with", [1, 2])
@pytest.mark.parametrize("switch", ["refit", "bind"])
def test_tasks_trained_after_the_build_need_no_new_plan(bench: Bench, switch: str, built_with: int) -> None:
    """Not even where they have normalisation of their own, and the first one, like all there was, had not."""
    with bench.load(switch, built_with=built_with) as engine:
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
        with pytest.raises(UsageError, match="task: none is set; say one of one, two, three, or call set_task"):
            engine.infer(bench.images)
        with pytest.raises(UsageError, match="expected one of one, two, three, got 'four'"):
            engine.set_task("four")


@pytest.mark.parametrize("switch", ["refit", "bind", "selector", "none"])
def test_a_plan_of_one_batch_size(bench: Bench, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    """Such a dimension is static in the engine: that number and not -1."""
    monkeypatch.setattr(StandInTensorRT, "batch", (2, 2))
    with bench.load(switch, batch=Batch(2, 2, 2)) as engine:
        engine.set_task("one")
        bench.expect(engine, "one")


def test_a_batch_takes_the_kernels_that_suit_it_best(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInTensorRT, "batch_profiles", (1, 3))
    with bench.load("bind") as engine:
        engine.set_task("two")
        together = engine.infer(bench.images)
        bench.device.log.clear()
        for count, profile in ((1, ["profile 1"]), (1, []), (3, ["profile 2"]), (2, ["profile 0"]), (4, [])):
            np.testing.assert_allclose(engine.infer(bench.images[:count]), together[:count], rtol=1e-5, atol=1e-5)
            assert [entry for entry in bench.device.log if entry.startswith("profile")] == profile
            bench.device.log.clear()


def test_a_refitter_that_tensorrt_does_not_make(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: StandInTensorRT, engine: object, logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(StandInTensorRT, "Refitter", nothing)
    with pytest.raises(EnvironmentFault, match=r"TensorRT makes no refitter for it \(pybind11.*nullptr\); free memory"):
        bench.load("refit")
    assert bench.device.closed


def test_a_second_engine_is_heard_by_the_logger_of_the_first(bench: Bench) -> None:
    """TensorRT goes by the logger that it was given first, whatever became of the engine that gave it."""
    sidecar = write_plan(bench.plan, bench.pack, "refit")
    trt = StandInTensorRT(StandInDevice(), "refit")
    for _ in range(2):
        loaded = LoadedEngine(bench.plan, bench.plan.read_bytes(), sidecar, trt.flavour)
        assert str(loaded.failure("it does not run")).endswith("it does not run; build the plan again on this machine")
        trt.logger.log(trt.ILogger.ERROR, "out of\nmemory")
        assert "it does not run: out of memory;" in str(loaded.failure("it does not run"))


def test_running_again_copies_nothing(bench: Bench) -> None:
    with bench.load("none") as engine:
        with pytest.raises(UsageError, match="call infer first"):
            engine.run_again()
        engine.infer(bench.images)
        bench.device.log.clear()
        engine.run_again()
        assert bench.device.log == ["run 4", "synchronise"]
