"""The GPU report: every section on stand-ins for TensorRT and the GPU, whose figures mean nothing, and its own works:
what crashes, what there is no time for, and what the next run makes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.fresh import NoAnswer
from packnet_deploy.gpu_report import engines, grid, others, sparse, switching
from packnet_deploy.gpu_report import report as reporting
from packnet_deploy.gpu_report.engines import which_bias
from packnet_deploy.gpu_report.goals import GOALS, goals
from packnet_deploy.gpu_report.report import GpuReport, gpu_report
from packnet_deploy.gpu_report.section import Section
from packnet_deploy.gpu_report.sheet import DIED, NO_TIME, Sheet, forget_unmeasured
from packnet_deploy.pack import Pack
from packnet_deploy.reports.blocks import Page
from packnet_deploy.reports.markdown import markdown_text
from packnet_deploy.trt import engine as running
from packnet_deploy.trt.build import BuildReport
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Batch, read_sidecar

COLUMNS = ("what", "a", "b")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has a GPU, by a stand-in for its diagnosis; sections are measured in this process."""
    real = reporting.diagnose()
    found = type(real.findings)(real.findings.packages, GPU, "", real.findings.tools)
    monkeypatch.setattr(reporting, "diagnose", lambda: type(real)(real.machine, found, real.abilities))
    monkeypatch.setattr(reporting, "expect_gpu", lambda purpose: GPU)
    monkeypatch.setattr(reporting, "in_fresh_process", lambda function, request, seconds: function(request))


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT, a GPU, and packs that take no time."""
    plans: list[Path] = []

    def build(pack: Pack, path: Path, options: BuildOptions, task: str | None = None, *_: object) -> BuildReport:
        batch = Batch(options.min_batch, options.opt_batch, options.max_batch)
        sidecar = write_plan(path, pack, options.switch, options.precision, batch, task=task or "one")
        return BuildReport(path, sidecar)

    def build_each(pack: Pack, paths: Mapping[str, Path], options: BuildOptions) -> list[BuildReport]:
        return [build(pack, path, options, task) for task, path in paths.items()]

    def load(plan: Path, pack: Pack, **options: Any) -> running.Engine:
        plans.append(plan)
        return real(plan, pack, **options)

    def flavour(name: str) -> object:
        sidecar = read_sidecar(plans[-1])
        opened[:] = [StandInDevice(stream=4711 + lane) for lane in range(3)]
        trt = StandInTensorRT(opened[0], sidecar.switch)
        trt.others, trt.batch = opened[1:], (sidecar.batch.least, sidecar.batch.most)
        waiting[:] = opened
        return trt.flavour

    opened: list[StandInDevice] = []
    waiting: list[StandInDevice] = []
    real = running.Engine.load
    alone = StandInTensorRT(StandInDevice(), "none")
    for module in (engines, sparse):
        monkeypatch.setattr(module, "build_plan", build)
    monkeypatch.setattr(grid, "build_plan", build)
    monkeypatch.setattr(grid, "build_plans", build_each)
    for module in (engines, sparse, grid):
        monkeypatch.setattr(module, "installed", lambda: ["tensorrt"])
    for module in (engines, grid, others):
        monkeypatch.setattr(module, "large", kept_pack)
    monkeypatch.setattr(engines, "small", kept_pack)
    monkeypatch.setattr(sparse, "patterned", lambda folder, arch: kept_pack(folder))
    monkeypatch.setattr(sparse, "breaking", lambda folder: (kept_pack(folder), kept_pack(folder)))
    monkeypatch.setattr(engines, "load_flavour", lambda name: alone.flavour)
    monkeypatch.setattr(engines, "Device", lambda gpu: alone.device)
    monkeypatch.setattr(running.Engine, "load", load)
    monkeypatch.setattr(running, "load_flavour", flavour)
    monkeypatch.setattr(running, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(running, "Device", lambda gpu, index=0: waiting.pop(0))
    for module in (engines, switching):
        monkeypatch.setattr(module, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(switching, "Device", lambda gpu: StandInDevice())
    for name, value in (("COUNT", 1027), ("REPEATS", 1), ("LAUNCHES", 2)):
        monkeypatch.setattr(switching, name, value)
    monkeypatch.setattr(switching, "device_copy", switching.host_copy)
    for name in ("RUNS", "SWITCHES"):
        monkeypatch.setattr(grid, name, 2)
    monkeypatch.setattr(others, "DEVICE", "cpu")
    monkeypatch.setattr(others, "SECONDS", 0.01)


def kept_pack(folder: Path) -> Pack:
    path = folder / "p.pack"
    return Pack.open(path) if path.exists() else growing_pack(path)


@pytest.mark.slow
@pytest.mark.usefixtures("machine", "stand_ins")
def test_every_section_measures_what_it_says(tmp_path: Path) -> None:
    """And the second run, where nothing is left to measure, says the same in no time."""
    report = gpu_report(tmp_path / "out")
    assert list(report.shown) == ["goals", *reporting.SECTIONS]
    for name, section in report.sections.items():
        assert not section.not_measured, name
        assert section.rows, name
        missing = [row for row in section.rows if any(str(cell).startswith(("not measured", "FAILED")) for cell in row)]
        # PyTorch has no network of this pack's, and there is nothing sparse here to be guarded.
        assert len(missing) == {"others": 1, "guard": 1}.get(name, 0), (name, missing)
    found = {row["goal"]: row["found"] for row in report.shown["goals"].records()}
    assert list(found) == [goal.what for goal in GOALS]
    assert all(isinstance(figure, float) for figure in found.values()), found
    begin = time.monotonic()
    again = gpu_report(tmp_path / "out", minutes=0)
    assert again.sections["grid"] == report.sections["grid"]
    assert again.sections["switches"] == report.sections["switches"]
    assert time.monotonic() - begin < 60
    assert NO_TIME in (tmp_path / "out" / "gpu.md").read_text()  # what had no figure is to be tried again


def test_without_a_gpu_there_is_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packnet_deploy.trt.gpu.find_gpu", lambda index=0: None)
    with pytest.raises(EnvironmentFault, match="a GPU report needs an NVIDIA GPU"):
        gpu_report(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("machine")
def test_every_section_is_kept_whatever_the_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def run_section(name: str, work: Path, rows: Path, seconds: float) -> Section:
        written = json.loads((tmp_path / "out" / "gpu.json").read_text())
        seen.append(len(written["sections"]) - 1)  # the goals aside
        if name == "guard":
            return Section("guard", "Why?", not_measured="its process ends with SIGSEGV")
        return Section(name, "Why?", ("what", "ms"), ((name, 1.25),), "fine")

    monkeypatch.setattr(reporting, "run_section", run_section)
    monkeypatch.setattr(reporting, "goals", lambda sections: Section("Goals", "Do they hold?", ("goal",), ()))
    report = gpu_report(tmp_path / "out")
    assert seen == list(range(len(reporting.SECTIONS)))  # the files are whole after every section
    text = (tmp_path / "out" / "gpu.md").read_text()
    assert text == report.to_markdown()
    assert "# Stand-in" in text
    assert "**Not measured**: its process ends with SIGSEGV" in text
    assert text.count("| 1.25 |") == len(reporting.SECTIONS) - 1
    written = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert {name: Section.from_json(one) for name, one in written["sections"].items()} == report.shown


@pytest.mark.usefixtures("machine")
def test_the_time_is_shared_and_what_one_leaves_the_next_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, float] = {}

    def run_section(name: str, work: Path, rows: Path, seconds: float) -> Section:
        given[name] = seconds
        return Section(name, "Why?", not_measured="no reason")

    monkeypatch.setattr(reporting, "run_section", run_section)
    gpu_report(tmp_path / "out", minutes=25)
    shares = {name: part.share for name, part in reporting.SECTIONS.items()}
    assert given["loads"] == pytest.approx(1500 * shares["loads"] / sum(shares.values()), rel=0.01)
    assert given["others"] == pytest.approx(1500, rel=0.01)  # the last one, when all others took no time


def test_a_process_that_dies_costs_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another goes on behind it; one that dies before any row is not begun again."""
    lives: list[str] = []

    def section(folder: Path, sheet: Sheet) -> Section:
        def dies() -> tuple[float]:
            raise KeyboardInterrupt  # which no row survives

        rows = [sheet.row((name,), COLUMNS, dies if name == "y" else lambda: (1.0, 2.0)) for name in "xyz"]
        return Section("T", "Q?", COLUMNS, tuple(rows))

    def in_fresh_process(function: Callable[..., Any], request: dict[str, Any], seconds: float) -> Any:
        lives.append(request["name"])
        try:
            return function(request)
        except KeyboardInterrupt:
            raise NoAnswer("its process was ended by SIGSEGV") from None

    monkeypatch.setattr(reporting, "in_fresh_process", in_fresh_process)
    monkeypatch.setattr(reporting, "SECTIONS", {"some": reporting.Part(section, 1)})
    found = reporting.run_section("some", tmp_path, tmp_path / "rows", 60)
    assert found.rows == (("x", 1.0, 2.0), ("y", DIED, None), ("z", 1.0, 2.0))
    assert len(lives) == 2

    def at_once(folder: Path, sheet: Sheet) -> Section:
        """Why?"""
        raise KeyboardInterrupt

    monkeypatch.setattr(reporting, "SECTIONS", {"some": reporting.Part(at_once, 1)})
    assert reporting.run_section("some", tmp_path, tmp_path / "other", 60).not_measured.endswith("SIGSEGV")
    assert len(lives) == 3


def test_what_there_was_no_time_for_is_measured_the_next_time(tmp_path: Path) -> None:
    calls: list[str] = []
    now = [0.0]

    def measured(name: str) -> tuple[float]:
        calls.append(name)
        now[0] += 10
        if name == "b":
            raise UsageError("no such thing")
        if name == "c":
            raise CheckFailed("other logits")
        return (1.5,)

    def run(seconds: float) -> list[tuple[object, ...]]:
        sheet = Sheet(tmp_path / "rows", seconds, lambda: now[0])
        return [sheet.row((name,), COLUMNS, lambda name=name: measured(name)) for name in "abcd"]

    first = [("a", 1.5, None), ("b", "not measured: no such thing", None), ("c", "FAILED: other logits", None)]
    assert run(30) == [*first, ("d", NO_TIME, None)]
    assert run(30) == [*first, ("d", 1.5, None)]
    assert calls == list("abcd")
    forget_unmeasured(tmp_path / "rows")
    run(30)
    assert calls == list("abcdb"), "an answer is an answer, and what failed otherwise is tried again"


@pytest.mark.usefixtures("machine")
def test_rows_of_another_machine_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    here = reporting.diagnose()
    rows = reporting._rows_to_go_on_with(tmp_path, here)
    (rows / "loads.jsonl").write_text('[["x"], [1.0]]\n')
    assert (reporting._rows_to_go_on_with(tmp_path, here) / "loads.jsonl").read_text() == '[["x"], [1.0]]\n'
    other = type(here)(here.machine, type(here.findings)(here.findings.packages, None, "", {}), here.abilities)
    assert (reporting._rows_to_go_on_with(tmp_path, other) / "loads.jsonl").read_text() == ""


def test_goals_take_the_worst_row_that_they_are_about() -> None:
    def ways(*rows: tuple[object, ...]) -> Section:
        return Section("Engines", "", grid.GRID, tuple((*row, *[0] * (len(grid.GRID) - len(row))) for row in rows))

    def way(switch: str, bank: str, ms: float, megabytes: float, precision: str = "fp16") -> tuple[object, ...]:
        return ("tensorrt", precision, switch, bank, "1", "no", "0.1", 0.2, 9.0, ms, ms, megabytes, 50.0)

    engines = ways(
        way("none", "", 1.0, 300),
        way("bind", "host", 1.04, 105),
        way("refit", "host", 1.02, 111),
        way("refit", "device", 1.2, 200),
        way("bind", "host", 9.9, 999, "fp32"),
        ("tensorrt", "fp16", "bind", "host", "1 to 8", "no", "not measured: no time", None),
    )
    found = {row["goal"]: (row["found"], row["holds"]) for row in goals({"grid": engines}).records()}
    assert found[GOALS[2].what] == (1.2, "NO")
    assert found[GOALS[3].what] == (pytest.approx(1 + 11 / 50), "NO")
    assert found[GOALS[0].what] == ("not measured", "")
    columns = ("network", "gain")
    gain = Section("Gain", "", columns, (("resnet50", 1.0), ("vgg16", 1.2), ("vgg16", "not measured: x")))
    found = {row["goal"]: (row["found"], row["holds"]) for row in goals({"gain": gain}).records()}
    assert found[GOALS[4].what] == (1.2, "yes")


@pytest.mark.skipif(reporting.diagnose().findings.gpu is not None, reason="for machines without a GPU")
def test_a_section_in_its_own_process_says_what_it_lacks(tmp_path: Path) -> None:
    section = reporting.run_section("switching", tmp_path, tmp_path / "rows", 60)
    assert section.not_measured.startswith("switching weights needs an NVIDIA GPU")
    assert section.question


def test_a_table_for_people() -> None:
    section = Section("T", "Q?", COLUMNS, (("a|b", 12345.6, 0.000123), ("c", None, 7)))
    shown = markdown_text(Page("T", (section.to_blocks(),)))
    assert "| a\\|b | 12,346 | 0.000123 |" in shown
    assert "| c |  | 7 |" in shown


@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_switching_is_compared_with_numpy(monkeypatch: pytest.MonkeyPatch, precision: str, where: str) -> None:
    """On the stand-in for a GPU, whose figures mean nothing."""
    monkeypatch.setattr(switching, "REPEATS", 1)
    monkeypatch.setattr(switching, "LAUNCHES", 2)
    kind = PRECISIONS[precision]
    equal, *figures = switching.measure_switch(StandInDevice(), kind, where, switching.host_copy, 1027)
    assert equal == "yes"
    assert len(figures) == len(switching.COLUMNS) - 3
    assert all(isinstance(figure, float) and figure > 0 for figure in figures)

    class Wrong(StandInDevice):
        def clear_owners(self, *arguments: object) -> None:
            pass

    assert switching.measure_switch(Wrong(), kind, where, switching.host_copy, 1027)[0] == "NO"


def test_a_lost_bias_is_told_from_a_kept_one() -> None:
    rng = np.random.default_rng(0)
    logits, bias = rng.standard_normal((4, 10)), rng.standard_normal(10)
    assert which_bias(logits + 1e-4, logits, bias)[0] == "kept"
    assert which_bias(logits - bias, logits, bias)[0] == "LOST"
    assert which_bias(np.zeros((4, 10)), logits, bias)[0] == "neither fits"


@pytest.mark.usefixtures("stand_ins")
def test_an_engine_that_does_not_run_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise ArtefactError("built for another GPU")

    monkeypatch.setattr(engines, "Engine", refuses)
    ((*_, runs),) = engines.loads(tmp_path, Sheet(tmp_path / "rows")).rows
    assert runs == "no: built for another GPU"


@pytest.mark.usefixtures("stand_ins")
def test_lists_of_gpus_that_tensorrt_rtx_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside its list: all that it has, none, and the GPU at hand by its own word for that."""
    rtx = type("Rtx", (StandInTensorRT,), {"ComputeCapability": None})(StandInDevice(), "none")
    flavour = type("F", (), {"name": "tensorrt-rtx", "version": "1.7", "builds_for_named_gpus": True})()
    flavour.compute_capabilities, flavour.usual_capabilities = ("7.5", "8.9"), lambda precision: ("8.9",)
    flavour.logger, flavour.start, flavour.api = rtx.flavour.logger, rtx.flavour.start, rtx
    given: list[object] = []

    class Recorded:
        def serialise(self, options: BuildOptions, image: object, *, capabilities: object) -> bytes:
            given.append(capabilities)
            return (tmp_path / "runs.plan").read_bytes()

    monkeypatch.setattr(engines, "installed", lambda: ["tensorrt-rtx"])
    monkeypatch.setattr(engines, "load_flavour", lambda name: flavour)
    monkeypatch.setattr(engines, "Device", lambda gpu: rtx.device)
    monkeypatch.setattr(StandInDevice, "close", lambda self: None)
    monkeypatch.setattr(Network, "parse", lambda *_: Recorded())
    rows = engines.loads(tmp_path, Sheet(tmp_path / "rows")).rows
    assert [(row[2], row[3]) for row in rows] == [("8.9", "no"), ("unset", "no"), ("CURRENT", "no")]
    assert all(str(row[4]).startswith("yes; logits differ by") for row in rows), rows
    assert given == [[], ["CURRENT"]]


def test_the_report_as_json_and_markdown_has_the_goals_first() -> None:
    report = GpuReport("2026-11-21", reporting.diagnose(), {})
    assert list(report.to_json()["sections"]) == ["goals"]
