"""The GPU report's own works: sections that fail or crash cost themselves only. What they measure takes a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.errors import CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.gpu_report import engines, switching
from packnet_deploy.gpu_report import report as reporting
from packnet_deploy.gpu_report.engines import which_bias
from packnet_deploy.gpu_report.section import Section, row
from packnet_deploy.pack import Pack
from packnet_deploy.reports.blocks import Page
from packnet_deploy.reports.markdown import markdown_text
from packnet_deploy.runners.comparison import Difference
from packnet_deploy.trt.build import BuildReport
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Gpu


def test_without_a_gpu_there_is_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packnet_deploy.trt.gpu.find_gpu", lambda index=0: None)
    with pytest.raises(EnvironmentFault, match="a GPU report needs an NVIDIA GPU"):
        reporting.gpu_report(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_section_is_kept_whatever_the_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(name: str) -> Section:
        if name == "guard":
            return Section("guard", "Why?", not_measured="its process ends with SIGSEGV")
        return Section(name, "Why?", ("what", "ms"), ((name, 1.25),), "fine")

    gpu = Gpu("Stand-in", "8.6", "13.0", 1 << 33)
    monkeypatch.setattr(reporting, "expect_gpu", lambda purpose, index=0: gpu)
    real = reporting.diagnose()
    found = type(real.findings)(real.findings.packages, gpu, "", real.findings.tools)
    monkeypatch.setattr(reporting, "diagnose", lambda: type(real)(real.machine, found, real.abilities))
    seen: list[int] = []

    def run_section(name: str) -> Section:
        written = json.loads((tmp_path / "out" / "gpu.json").read_text())
        seen.append(len(written["sections"]))
        return section(name)

    monkeypatch.setattr(reporting, "run_section", run_section)
    report = reporting.gpu_report(tmp_path / "out")
    assert seen == list(range(len(reporting.SECTIONS)))  # the files are whole after every section
    text = (tmp_path / "out" / "gpu.md").read_text()
    assert text == report.to_markdown()
    assert "# Stand-in" in text
    assert "**Not measured**: its process ends with SIGSEGV" in text
    assert text.count("| 1.25 |") == len(reporting.SECTIONS) - 1
    written = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [Section.from_json(one) for one in written["sections"]] == list(report.sections)


@pytest.mark.skipif(reporting.diagnose().findings.gpu is not None, reason="for machines without a GPU")
def test_a_section_in_its_own_process_says_what_it_lacks() -> None:
    section = reporting.run_section("switching")
    assert section.not_measured.startswith("switching weights needs an NVIDIA GPU")
    assert section.question


def test_a_row_that_fails_says_why_and_the_others_count() -> None:
    def fails() -> tuple[float, float]:
        raise UsageError("no such thing")

    columns = ("what", "a", "b")
    assert row(("x",), columns, lambda: (1.0, 2.0)) == ("x", 1.0, 2.0)
    assert row(("x",), columns, fails) == ("x", "not measured: no such thing", None)
    section = Section("T", "Q?", columns, (("a|b", 12345.6, 0.000123), ("c", None, 7)))
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
        def clear_owners(self, *arguments: int) -> None:
            pass

    assert switching.measure_switch(Wrong(), kind, where, switching.host_copy, 1027)[0] == "NO"


def test_a_lost_bias_is_told_from_a_kept_one() -> None:
    rng = np.random.default_rng(0)
    logits, bias = rng.standard_normal((4, 10)), rng.standard_normal(10)
    assert which_bias(logits + 1e-4, logits, bias)[0] == "kept"
    assert which_bias(logits - bias, logits, bias)[0] == "LOST"
    assert which_bias(np.zeros((4, 10)), logits, bias)[0] == "neither fits"


def test_a_check_that_fails_is_an_answer() -> None:
    def fails() -> tuple[float]:
        raise CheckFailed("other logits")

    assert row(("x",), ("what", "a", "b"), fails) == ("x", "FAILED: other logits", None)


def test_parity_tells_wrong_from_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(pack: Pack, path: Path, options: BuildOptions, task: str | None) -> BuildReport:
        if options.precision == "bf16":
            raise EnvironmentFault("no such kernels")
        if options.switch == "refit":
            raise CheckFailed("other logits")
        return BuildReport(path, None, {"one": Difference(0.5, 1e4)})  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "large", lambda folder: growing_pack(folder / "p.pack"))
    monkeypatch.setattr(engines, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(engines, "build_plan", build)
    section = engines.parity(tmp_path)
    assert section.answer == "6 agree, 2 do not, 4 were not measured"
    assert all(len(cells) == len(section.columns) for cells in section.rows)


@pytest.mark.parametrize(("spoilt", "answer"), [(False, "yes; logits differ by "), (True, "no: ")])
def test_whether_an_engine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: bool, answer: str) -> None:
    """On stand-ins for a GPU and for TensorRT; the spoilt plan is one that it does not take."""
    device = StandInDevice()
    trt = StandInTensorRT(device, "none")

    def build(pack: Pack, path: Path, options: BuildOptions, task: str) -> BuildReport:
        sidecar = write_plan(path, pack, "none", task=task)
        return BuildReport(path, sidecar)

    def deserialise(content: bytes) -> None:
        trt.logger.log(trt.ILogger.ERROR, "built for another GPU")

    if spoilt:
        monkeypatch.setattr(trt, "deserialize_cuda_engine", deserialise)
    monkeypatch.setattr(engines, "_small", lambda folder: growing_pack(folder / "p.pack"))
    monkeypatch.setattr(engines, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(engines, "build_plan", build)
    monkeypatch.setattr(engines, "load_flavour", lambda name: trt.flavour)
    monkeypatch.setattr(engines, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engines, "Device", lambda gpu, index=0: device)
    ((*_, runs),) = engines.loads(tmp_path).rows
    assert str(runs).startswith(answer)
    assert ("built for another GPU" in str(runs)) is spoilt
    assert device.closed
