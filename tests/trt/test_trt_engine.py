"""An engine on stand-ins for TensorRT and the GPU (stand_in.py says what that shows, and what not)."""

from __future__ import annotations

import enum
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from export_networks import pack_of, tiny_network
from stand_in import (
    GPU,
    STREAM,
    StandInContext,
    StandInDevice,
    StandInEngine,
    StandInRefitter,
    StandInTensorRT,
    StandInWeights,
)
from stand_in_plans import CLASSES, SHARES, first_tasks, growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.pack import probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.bank import EngineBank, load_engine_bank
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import Flavour
from packnet_deploy.trt.layout import layout_of
from packnet_deploy.trt.loader import LoadedEngine
from packnet_deploy.trt.placement import gpu_bytes, place, sizes_of
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
        self,
        switch: str,
        *,
        built_with: int = 3,
        bank: str = "host",
        cuda_graph: bool = False,
        resident: int = 1,
        **plan,
    ) -> Engine:
        """Write a plan of the pack's first tasks, and load it with the whole pack."""
        write_plan(self.plan, first_tasks(self.pack, built_with), switch, **plan)
        return self.load_again(switch, bank=bank, cuda_graph=cuda_graph, resident=resident)

    def load_again(self, switch: str, **options) -> Engine:
        self.devices = [StandInDevice(stream=STREAM + lane) for lane in range(max(1, options.get("resident", 1)))]
        self.device = self.devices[0]
        self.trt = StandInTensorRT(self.device, switch)
        self.trt.others = self.devices[1:]
        opened = iter(self.devices)
        self._monkeypatch.setattr(engine_module, "load_flavour", lambda name: self.trt.flavour)
        self._monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose: GPU)
        self._monkeypatch.setattr(engine_module, "Device", lambda gpu: next(opened))
        return Engine.load(self.plan, self.pack, **options)

    def own_count(self, bank: EngineBank) -> int:
        """Weights that a task brings whole, gaps included."""
        layout = layout_of(bank.weights, bank.precision.dtype)
        return layout.count - layout.banked

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


# ---- the order of calls --------------------------------------------------------------------------------------------


def test_a_refit_gives_what_differs_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    """First everything, seen by TensorRT; then only what differs, unseen: these tasks share their normalisation."""
    bench.pack = pack_of(tmp_path / "shared.pack", tiny_network(), SHARES, classes=CLASSES)
    with bench.load("refit") as engine:
        log = bench.device.log
        assert not any(entry.startswith("give") for entry in log)
        log.clear()
        engine.set_task("one")
        given = {name for entry in log if entry.startswith("give") for name in entry.split()[1:]}
        assert given == {weight.name for weight in engine.sidecar.weights}
        log.clear()
        engine.set_task("two")
        gifts = [entry for entry in log if entry.startswith("give")]
        assert gifts
        assert all(entry.endswith(" unseen") for entry in gifts)
        given = {name for entry in gifts for name in entry.split()[1:-1]}
        assert given == {"a.weight", "b.weight", "head.weight", "head.bias"}
        log.clear()
        engine.set_task("two")
        assert log == []
        engine.infer(bench.images[:1])
        assert log == ["upload", "run 1", "download", "synchronise"]


def test_weights_of_a_sparse_engine_are_looked_at_every_time(bench: Bench) -> None:
    with bench.load("refit", sparse_weights=True) as engine:
        for task in TASKS:
            engine.set_task(task)
        assert not any(entry.endswith("unseen") for entry in bench.device.log)


def test_merged_weights_are_given_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInTensorRT, "merged", (frozenset({"b.weight", "n2.scale"}),))
    with bench.load("refit") as engine:
        for task in ("one", "three", "two"):
            engine.set_task(task)
            bench.expect(engine, task)
        for entry in bench.device.log:
            assert entry.startswith("give") is False or ("b.weight" in entry) == ("n2.scale" in entry)


def test_binding_writes_the_difference(bench: Bench) -> None:
    own = 4 * bench.own_count(load_engine_bank(bench.pack, ExportOptions().target(bench.pack)))
    with bench.load("bind") as engine:
        log = bench.device.log
        log.clear()
        engine.set_task("two")  # from zeros: the values of two owners, in one launch
        assert [entry.split()[0] for entry in log] == ["clear", "write", "copy", "synchronise"]
        assert "write 2" in log
        log.clear()
        engine.set_task("three")
        assert log == ["write 1", f"copy {own}", "synchronise"]
        log.clear()
        engine.set_task("one")
        assert log == ["clear owners 2", f"copy {own}", "synchronise"]
    with bench.load("selector") as engine:
        bench.device.log.clear()
        engine.set_task("two")
        assert bench.device.log == ["upload", "synchronise"]


@pytest.mark.parametrize("switch", ["refit", "bind"])
@pytest.mark.parametrize("bank", ["host", "device"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_memory_is_what_the_formula_says(bench: Bench, switch: str, bank: str, precision: str) -> None:
    """To the byte, what the driver's stand-in gave and TensorRT's took for weights; images and logits aside."""
    with bench.load(switch, bank=bank, precision=precision) as engine:
        for task in TASKS:
            engine.set_task(task)
        sizes = sizes_of(load_engine_bank(bench.pack, ExportOptions(precision=precision).target(bench.pack)))
        expected = gpu_bytes(sizes, switch, place(sizes, switch, bank))
        most = engine.sidecar.batch.most
        requests = 4 * most * (int(np.prod(engine.sidecar.input.shape)) + engine.sidecar.classes)
        assert bench.device.allocated - requests == sum(expected.values())


# ---- several at once -----------------------------------------------------------------------------------------------


def test_a_request_carries_its_task(bench: Bench) -> None:
    with bench.load("bind") as engine:
        for task in ("two", "three", "one", "one"):
            expected = bench.pack.load_task(task).probe_logits
            np.testing.assert_allclose(engine.infer(bench.images, task), expected, rtol=1e-4, atol=1e-4)
        engine.set_task("two")
        engine.infer(bench.images, task="one")
        assert engine.task == "two"
        bench.expect(engine, "two")
        with pytest.raises(UsageError, match="expected one of one, two, three, got 'four'"):
            engine.infer(bench.images, task="four")


def test_a_resident_task_is_not_switched_to_again(bench: Bench) -> None:
    with bench.load("bind", resident=2) as engine:
        for task in ("one", "two"):
            engine.infer(bench.images, task)
        for device in bench.devices:
            device.log.clear()
        for task in ("two", "one", "one", "two"):
            expected = bench.pack.load_task(task).probe_logits
            np.testing.assert_allclose(engine.infer(bench.images, task), expected, rtol=1e-4, atol=1e-4)
        assert not any("write" in entry for device in bench.devices for entry in device.log)
        engine.infer(bench.images, "three")  # takes the place of the one that was idle for longest
        assert [any("write" in entry for entry in device.log) for device in bench.devices] == [True, False]


def test_each_resident_task_costs_a_model(bench: Bench) -> None:
    taken = {}
    for resident in (1, 3):
        with bench.load("bind", resident=resident):
            taken[resident] = sum(device.allocated for device in bench.devices)
    sizes = sizes_of(load_engine_bank(bench.pack, ExportOptions().target(bench.pack)))
    requests = 4 * 4 * (3 * 5 * 6 + 4)
    assert taken[3] - taken[1] == 2 * (sizes.buffer + requests)


@pytest.mark.parametrize("switch", ["selector", "none", "bind"])
def test_requests_run_side_by_side(bench: Bench, switch: str) -> None:
    """Two threads are inside the engine at the same time, each on a stream of its own, and each gets its task's."""
    with bench.load(switch, resident=2) as engine:
        tasks = ("one", "one") if switch == "none" else ("one", "two")
        meet = threading.Barrier(2, timeout=60)
        for device in bench.devices:
            device.before_run = meet.wait
        got: dict[int, np.ndarray] = {}

        def work(place: int) -> None:
            got[place] = engine.infer(bench.images, tasks[place])

        threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for place, task in enumerate(tasks):
            expected = bench.pack.load_task(task).probe_logits
            np.testing.assert_allclose(got[place][:, : expected.shape[1]], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("switch", "resident"), [("refit", 2), ("bind", 0)])
def test_how_many_can_be_resident(bench: Bench, switch: str, resident: int) -> None:
    with pytest.raises(UsageError, match=f"resident: expected .*1.*, got {resident}"):
        bench.load(switch, resident=resident)


# ---- CUDA graphs ---------------------------------------------------------------------------------------------------


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
    assert [record.message for record in caplog.records] == [
        "CUDA graph: the CUDA driver says CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; running without one"
    ]


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


# ---- odds and ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["refit", "bind", "selector", "none"])
def test_a_plan_of_one_batch_size(bench: Bench, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    """Such a dimension is static in the engine: that number and not -1."""
    monkeypatch.setattr(StandInTensorRT, "batch", (2, 2))
    with bench.load(switch, batch=Batch(2, 2, 2)) as engine:
        engine.set_task("one")
        bench.expect(engine, "one")


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


# ---- what goes wrong -----------------------------------------------------------------------------------------------


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
