"""Measuring plans, on the stand-ins of tests/trt/stand_in.py: NOT on TensorRT and a GPU, so the times mean nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.bench import backends, prepare, worker
from packnet_deploy.bench import run as running
from packnet_deploy.bench.job import Job
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.prepare import jobs_of_pack, jobs_of_plans, split_files
from packnet_deploy.bench.report import GPU_TIME, IN_TURN, NO_COPIES, REPEATED, Measurement
from packnet_deploy.bench.ways import ways_of
from packnet_deploy.bench.worker import measure
from packnet_deploy.cli.app import run
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.export.api import export_task
from packnet_deploy.pack import Pack
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.build import BuildReport
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import read_sidecar, sidecar_path

QUICK = BenchOptions(batch_sizes=(2, 8), repeats=3, seconds=5, warmup=1)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "tiny.pack")


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[StandInDevice]:
    """A machine with a stand-in for a GPU and for TensorRT; every device that was opened, the latest last."""
    opened: list[StandInDevice] = []
    switches: list[str] = []

    def load(plan: Path, pack: Pack, **how: bool) -> engine_module.Engine:
        switches.append(read_sidecar(plan).switch)
        return real(plan, pack, **how)

    def flavour(name: str) -> object:
        opened.append(StandInDevice())
        return StandInTensorRT(opened[-1], switches[-1]).flavour

    real = engine_module.Engine.load
    monkeypatch.setattr(engine_module.Engine, "load", load)
    monkeypatch.setattr(engine_module, "load_flavour", flavour)
    monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engine_module, "Device", lambda gpu, index=0: opened[-1])
    for module in (backends, prepare):
        monkeypatch.setattr(module, "load_flavour", lambda name: None)
    monkeypatch.setattr(prepare, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(worker, "gpu_bytes_used", lambda index=0: 1000 + sum(device.allocated for device in opened))
    return opened


def plans_of(pack: Pack, folder: Path) -> list[Path]:
    """One for each switch, and for switch none one for each of two tasks."""
    paths = [folder / f"{switch}.plan" for switch in ("refit", "bind", "selector")]
    for path in paths:
        write_plan(path, pack, path.stem)
    for task in ("two", "one"):
        paths.append(folder / f"{task}.plan")
        write_plan(paths[-1], pack, "none", task=task)
    return paths


def test_every_way_without_and_with_a_cuda_graph(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    jobs = jobs_of_plans(plans_of(pack, tmp_path), pack, ["one", "two"], QUICK)
    assert [(job.way, job.cuda_graph) for job in jobs] == [
        (way, graph) for way in ("refit", "bind", "selector", "together") for graph in (False, True)
    ]
    assert all(list(job.models) == ["one", "two"] and job.backend == "tensorrt" for job in jobs)
    assert Job.from_json(json.loads(json.dumps(dataclasses.asdict(jobs[0])))) == jobs[0]
    refit, _, _, _, selector, _, together, _ = ({Path(file).name for file in job.files} for job in jobs)
    assert {"refit.plan", "refit.plan.json", "pack.json", "graph.onnx"} < refit, "the weights come from the pack"
    assert len(refit) == 4 + len(pack.tasks)
    assert selector == {"selector.plan", "selector.plan.json"}
    assert together == {f"{task}.plan{more}" for task in ("one", "two") for more in ("", ".json")}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("way", ["refit", "bind", "selector", "together"])
def test_what_is_measured_of_an_engine(
    pack: Pack, tmp_path: Path, devices: list[StandInDevice], way: str, graph: bool
) -> None:
    jobs = jobs_of_plans(plans_of(pack, tmp_path), pack, ["one", "two"], QUICK)
    (job,) = (job for job in jobs if (job.way, job.cuda_graph) == (way, graph))
    found = measure(job)
    assert Measurement.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
    assert found.label == f"{way} tensorrt{' graph' if graph else ''}"
    assert set(found.providers.values()) == {"TensorRT"}
    assert found.file_bytes == sum(Path(file).stat().st_size for file in job.files)
    assert found.notes == (f"{found.label}: batches of 8 go in parts of 4, the most the plan takes",)
    assert found.gpu_memory_bytes == sum(device.allocated for device in devices) > 0

    kinds = {
        how: [(row.batch, row.task) for row in found.timings(how)] for how in (IN_TURN, REPEATED, NO_COPIES, GPU_TIME)
    }
    both = [(batch, task) for batch in (2, 8) for task in ("one", "two")]
    assert kinds[IN_TURN] == both
    assert kinds[REPEATED] == ([] if way == "together" else both)
    assert kinds[NO_COPIES] == kinds[GPU_TIME] == both[:2], "what goes in parts is no one batch"
    assert {row.timing.p50_ms for row in found.timings(GPU_TIME)} == {0.25}
    assert (found.switch is None) == (way == "together")
    assert found.switch is None or found.switch.runs == 3 * 2, "each of two tasks thrice"
    assert found.switch_ms is not None
    assert len(devices) == (2 if way == "together" else 1)
    assert all(device.closed for device in devices)


def test_another_precision_is_told(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    write_plan(tmp_path / "bind.plan", pack, "bind", "fp16")
    job = jobs_of_plans([tmp_path / "bind.plan"], pack, [], dataclasses.replace(QUICK, batch_sizes=(1,)))[0]
    assert measure(job).notes == ("bind tensorrt: the plan computes in fp16, not in fp32 as others do",)


def test_a_graph_that_cannot_be_captured_costs_the_graph_alone_and_is_told(
    pack: Pack, tmp_path: Path, devices: list[StandInDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInDevice, "refuses_capture", "operation not permitted when stream is capturing")
    write_plan(tmp_path / "bind.plan", pack, "bind")
    options = dataclasses.replace(QUICK, batch_sizes=(2,))
    job = jobs_of_plans([tmp_path / "bind.plan"], pack, ["one", "two"], options)[1]
    found = measure(job)
    assert found.notes == (
        "bind tensorrt graph: CUDA graph: operation not permitted when stream is capturing; running without one",
    )
    assert len(found.timings(NO_COPIES)) == 2


@pytest.mark.parametrize("graph", [False, True])
def test_no_copies_means_none(pack: Pack, tmp_path: Path, devices: list[StandInDevice], graph: bool) -> None:
    write_plan(tmp_path / "bind.plan", pack, "bind")
    options = dataclasses.replace(QUICK, batch_sizes=(1, 2), repeats=20, warmup=0)
    job = jobs_of_plans([tmp_path / "bind.plan"], pack, ["two"], options)[graph]
    assert measure(job).timings(NO_COPIES)[0].timing.runs == 20
    run = "replay" if graph else "run 2"
    alone = devices[0].log[-103:-1]
    assert alone[:42] == [run, "synchronise"] * 21, "one untimed, which has captured the graph"
    assert alone[42:] == ["timed", run, "synchronise"] * 20


def test_the_switch_alone_changes_the_task_each_time(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    write_plan(tmp_path / "selector.plan", pack, "selector")
    job = jobs_of_plans([tmp_path / "selector.plan"], pack, [], QUICK)[0]
    assert list(job.models) == ["one", "two", "three"]
    switch = measure(job).switch
    assert switch is not None
    assert switch.runs == 9
    # 1 untimed round and 3 timed ones of 3 tasks, before it is closed; each writes the task's index.
    assert devices[0].log[-25:-1] == ["upload", "synchronise"] * 12


def test_the_ways_are_compared(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    jobs = jobs_of_plans(plans_of(pack, tmp_path), pack, ["one", "two"], dataclasses.replace(QUICK, batch_sizes=(2,)))
    ways = ways_of([measure(job) for job in reversed(jobs)])
    assert [way.label for way in ways] == [
        f"{name} tensorrt{graph}" for name in ("together", "selector", "refit", "bind") for graph in ("", " graph")
    ]
    assert all(way.gpu_memory_bytes for way in ways)


def test_plans_are_built_from_the_pack(
    pack: Pack, tmp_path: Path, devices: list[StandInDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build(pack: Pack, path: Path, options: BuildOptions, task: str | None = None) -> BuildReport:
        built.append((options.backend, options.switch, task, options.precision, options.opt_batch, options.max_batch))
        return BuildReport(path, write_plan(path, pack, options.switch, task=task or "one"))

    def build_each(pack: Pack, plans: dict[str, Path], options: BuildOptions) -> list[BuildReport]:
        return [build(pack, path, options, task) for task, path in plans.items()]

    monkeypatch.setattr(prepare, "build_plan", build)
    monkeypatch.setattr(prepare, "build_plans", build_each)
    options = dataclasses.replace(QUICK, backends=("tensorrt",), switch=("none", "bind"), precision="fp16")
    jobs = jobs_of_pack(pack, ["one", "three"], tmp_path, options)
    assert built == [
        ("tensorrt", "none", "one", "fp16", 2, 8),
        ("tensorrt", "none", "three", "fp16", 2, 8),
        ("tensorrt", "bind", None, "fp16", 2, 8),
    ]
    assert [(job.way, list(job.models)) for job in jobs[::2]] == [
        ("together", ["one", "three"]),
        ("bind", ["one", "three"]),
    ]


def test_requests_that_cannot_be_met(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    plans = plans_of(pack, tmp_path)
    with pytest.raises(UsageError, match=r"one\.plan: tensorrt, switch none: task 'one' is in .*one\.plan as well"):
        jobs_of_plans([*plans, plans[-1]], pack, [], QUICK)
    with pytest.raises(UsageError, match="expected one of tensorrt, switch none, with task 'three', got none"):
        jobs_of_plans(plans, pack, ["three"], QUICK)


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here")
def test_without_a_gpu_nothing_is_built_or_measured(
    pack: Pack, tmp_path: Path, devices: list[StandInDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(prepare, "load_flavour", lambda name: None)
    monkeypatch.setattr(prepare, "export_task", lambda *_: pytest.fail("exported"))
    for name in ("build_plan", "build_plans"):
        monkeypatch.setattr(prepare, name, lambda *_: pytest.fail("built"))
    with pytest.raises(EnvironmentFault, match="measuring an engine needs an NVIDIA GPU"):
        jobs_of_plans(plans_of(pack, tmp_path), pack, ["one"], QUICK)
    options = dataclasses.replace(QUICK, backends=("onnxruntime", "tensorrt-rtx"))
    with pytest.raises(EnvironmentFault, match="tensorrt-rtx: measuring an engine needs an NVIDIA GPU"):
        jobs_of_pack(pack, ["one"], tmp_path, options)


def test_plans_are_known_by_their_sidecars(pack: Pack, tmp_path: Path) -> None:
    write_plan(tmp_path / "odd.name", pack, "bind")
    write_plan(tmp_path / "one.plan", pack, "bind")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.onnx").touch()
    for name in ("both", "."):
        write_plan(tmp_path / name / "two.plan", pack, "bind")
    sidecar_path(tmp_path / "one.plan").unlink()
    files = [tmp_path / "odd.name", tmp_path / "x.onnx", tmp_path / "one.plan", tmp_path / "both"]
    models, plans = split_files(files)
    assert models == [tmp_path / "x.onnx", tmp_path / "both"]
    assert plans == [tmp_path / "odd.name", tmp_path / "one.plan", tmp_path / "both" / "two.plan"]
    assert split_files([tmp_path]) == ([], [tmp_path / "one.plan", tmp_path / "two.plan"])


def test_the_command_line(
    pack: Pack,
    tmp_path: Path,
    devices: list[StandInDevice],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From files to tables, JSON, CSV and a picture; the measuring in this process, where the stand-ins are."""
    monkeypatch.setattr(running, "run_job", measure)
    monkeypatch.chdir(tmp_path)
    plans = [str(path) for path in plans_of(pack, tmp_path)]
    dense = export_task(pack, "one", tmp_path / "one.onnx").files[0]
    quick = ["--batch-size", "1", "--repeats", "2", "--seconds", "0.1", "--device", "cpu"]
    more = ["--task", "one", "--task", "two", "--json", "--csv", "b.csv", "--plot", "b.svg"]
    assert run(["bench", *plans, "--pack", str(pack.path), *quick, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    ways = [(way["name"], way["backend"], way["cuda_graph"]) for way in found["ways"]]
    assert ways == [
        (name, "tensorrt", graph) for name in ("together", "selector", "refit", "bind") for graph in (False, True)
    ]
    assert "tensorrt" in found["recommended"]
    assert {"switch", "how", "gpu_memory_bytes", "refit", "bind"} <= found["definitions"].keys()
    assert (tmp_path / "b.csv").read_text().count("no copies") == 4 * 2 * 2
    assert "refit tensorrt graph" in (tmp_path / "b.svg").read_text()

    assert run(["bench", str(dense), plans[0], *quick]) == 0, "the only pack here; ONNX files beside plans"
    shown = capsys.readouterr().out
    assert "Switching alone" in shown
    assert "TensorRT" in shown
    assert run(["bench", str(dense), "--pack", str(pack.path)]) == 2
    assert run(["bench", str(dense), plans[0], "--task", "one"]) == 2
    assert run(["bench", plans[0], "--plot", "b.gif"]) == 2
