"""``packnet doctor --gpu-report``: everything that takes a GPU, checked and measured, as Markdown and JSON.

Each section runs in a process of its own, and the files are written anew after each: whatever fails or crashes costs
its own section and no other, and what is interrupted leaves what it has.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from packnet_deploy.doctor.diagnosis import Diagnosis, diagnose
from packnet_deploy.fresh import NoAnswer, Raised, in_fresh_process
from packnet_deploy.gpu_report.engines import banks, bias, loads, parity
from packnet_deploy.gpu_report.section import Section
from packnet_deploy.gpu_report.sparse import gain, guard
from packnet_deploy.gpu_report.switching import switching
from packnet_deploy.gpu_report.ways import ways
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.reports.blocks import Page, Text
from packnet_deploy.reports.markdown import markdown_text
from packnet_deploy.trt.gpu import expect_gpu

SECTIONS: Mapping[str, Callable[[Path], Section]] = {
    "switching": switching,
    "loads": loads,
    "parity": parity,
    "bias": bias,
    "guard": guard,
    "banks": banks,
    "ways": ways,
    "gain": gain,
}
MARKDOWN, JSON = "gpu.md", "gpu.json"
PATIENCE = 3600  # seconds for a section


@dataclass(frozen=True)
class GpuReport:
    """What there is so far.

    Attributes:
        date: ISO 8601, UTC.
    """

    date: str
    diagnosis: Diagnosis
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Any]:
        sections = [section.to_json() for section in self.sections]
        return {"date": self.date, "diagnosis": self.diagnosis.to_json(), "sections": sections}

    def to_markdown(self) -> str:
        gpu, findings = self.diagnosis.findings.gpu, self.diagnosis.findings
        assert gpu is not None
        versions = [f"{p.name} {p.version}" for p in findings.packages.values() if p.works]
        driver = findings.tools["NVIDIA driver"] or "of unknown version"
        opening = (
            f"{self.date}. Compute capability {gpu.compute_capability}, {gpu.memory / 1e9:.0f} GB, driver {driver} for "
            f"CUDA up to {gpu.driver}. {self.diagnosis.machine}; {', '.join(versions)}.",
            "Weights are random, zeros as in packs; written by `packnet doctor --gpu-report`.",
        )
        sections = tuple(section.to_blocks() for section in self.sections)
        return markdown_text(Page(gpu.name, sections, tuple(map(Text, opening))))


def gpu_report(folder: Path, on_start: Callable[[int, int, str], None] | None = None) -> GpuReport:
    """Run every section and write ``gpu.md`` and ``gpu.json`` to ``folder``, which is made if need be.

    Args:
        on_start: told, before each section, how many are done, how many there are, and which is next.

    Raises:
        EnvironmentFault: there is no GPU. Whatever else is missing is said in the section that needs it.
        OSError: the files cannot be written; found out before anything is measured.
    """
    expect_gpu("a GPU report")
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    report = GpuReport(date, diagnose(), ())
    _write(report, folder)
    for done, name in enumerate(SECTIONS):
        if on_start is not None:
            on_start(done, len(SECTIONS), name)
        report = GpuReport(date, report.diagnosis, (*report.sections, run_section(name)))
        _write(report, folder)
    return report


def run_section(name: str) -> Section:
    """One of ``SECTIONS``, in a process and a temporary folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Section.from_json(in_fresh_process(measure, {"name": name, "folder": folder}, PATIENCE))
        except (Raised, NoAnswer) as error:
            return Section(name, str(SECTIONS[name].__doc__), not_measured=str(error))


def measure(request: Mapping[str, str]) -> dict[str, Any]:
    """A section measured here, as JSON."""
    return SECTIONS[request["name"]](Path(request["folder"])).to_json()


def _write(report: GpuReport, folder: Path) -> None:
    for name, text in ((MARKDOWN, report.to_markdown()), (JSON, json.dumps(report.to_json(), indent=1) + "\n")):
        with replacing(folder / name) as file:
            file.write(text.encode())
