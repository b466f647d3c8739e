"""``packnet gpu-report``: everything that takes a GPU, checked and measured, as Markdown and JSON, in so many minutes.

Each section runs in a process of its own, and the files are written anew after each: whatever fails or crashes costs
its own row and no other, and what is interrupted leaves what it has. The same command once more measures what has no
figures yet, on the same machine with the same versions.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from packnet_deploy.doctor.diagnosis import Diagnosis, diagnose
from packnet_deploy.fresh import NoAnswer, Raised, in_fresh_process
from packnet_deploy.gpu_report.engines import bias, loads
from packnet_deploy.gpu_report.goals import goals
from packnet_deploy.gpu_report.grid import grid, switches
from packnet_deploy.gpu_report.others import others
from packnet_deploy.gpu_report.section import Section
from packnet_deploy.gpu_report.sheet import Sheet, forget_unmeasured, rows_in
from packnet_deploy.gpu_report.sparse import gain, guard
from packnet_deploy.gpu_report.switching import switching
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.reports.blocks import Page, Text
from packnet_deploy.reports.markdown import markdown_text
from packnet_deploy.trt.gpu import expect_gpu


@dataclass(frozen=True)
class Part:
    """A section to be measured.

    Attributes:
        share: of the time, beside the others'.
    """

    measure: Callable[[Path, Sheet], Section]
    share: int


SECTIONS: Mapping[str, Part] = {
    "loads": Part(loads, 1),
    "switching": Part(switching, 1),
    "switches": Part(switches, 4),
    "grid": Part(grid, 10),
    "bias": Part(bias, 1),
    "guard": Part(guard, 1),
    "gain": Part(gain, 5),
    "others": Part(others, 2),
}
MARKDOWN, JSON = "gpu.md", "gpu.json"
ROWS, MACHINE = "rows", "machine.json"  # of a run that may go on
MINUTES = 25
GRACE = 120  # seconds for a row that was begun in time


@dataclass(frozen=True)
class GpuReport:
    """What there is so far.

    Attributes:
        date: ISO 8601, UTC.
        sections: by name.
    """

    date: str
    diagnosis: Diagnosis
    sections: Mapping[str, Section]

    def to_json(self) -> dict[str, Any]:
        sections = {name: section.to_json() for name, section in self.shown.items()}
        return {"date": self.date, "diagnosis": self.diagnosis.to_json(), "sections": sections}

    @property
    def shown(self) -> dict[str, Section]:
        """The goals, and then the sections."""
        return {"goals": goals(self.sections), **self.sections}

    def to_markdown(self) -> str:
        gpu, findings = self.diagnosis.findings.gpu, self.diagnosis.findings
        assert gpu is not None
        versions = [f"{p.name} {p.version}" for p in findings.packages.values() if p.works]
        driver = findings.tools["NVIDIA driver"] or "of unknown version"
        opening = (
            f"{self.date}. Compute capability {gpu.compute_capability}, {gpu.memory / 1e9:.0f} GB, driver {driver} for "
            f"CUDA up to {gpu.driver}. {self.diagnosis.machine}; {', '.join(versions)}.",
            "Weights are random, zeros as in packs; written by `packnet gpu-report`.",
        )
        sections = tuple(section.to_blocks() for section in self.shown.values())
        return markdown_text(Page(gpu.name, sections, tuple(map(Text, opening))))


def gpu_report(
    folder: Path, minutes: float = MINUTES, on_start: Callable[[int, int, str], None] | None = None
) -> GpuReport:
    """Measure every section and write ``gpu.md`` and ``gpu.json`` to ``folder``, which is made if need be.

    Args:
        folder: also keeps every row as soon as it is measured, so that a later call goes on.
        minutes: for all of it, about; what there is no time for says so.
        on_start: told, before each section, how many are done, how many there are, and which is next.

    Raises:
        EnvironmentFault: there is no GPU. Whatever else is missing is said in the section that needs it.
        OSError: the files cannot be written; found out before anything is measured.
    """
    expect_gpu("a GPU report")
    until = time.monotonic() + 60 * minutes
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    report = GpuReport(date, diagnose(), {})
    rows = _rows_to_go_on_with(folder, report.diagnosis)
    _write(report, folder)
    with tempfile.TemporaryDirectory() as work:  # packs and plans, which sections share
        shares = sum(part.share for part in SECTIONS.values())
        for done, (name, part) in enumerate(SECTIONS.items()):
            if on_start is not None:
                on_start(done, len(SECTIONS), name)
            seconds = max(0.0, until - time.monotonic()) * part.share / shares
            section = run_section(name, Path(work), rows / f"{name}.jsonl", seconds)
            report = GpuReport(date, report.diagnosis, {**report.sections, name: section})
            _write(report, folder)
            shares -= part.share
    return report


def run_section(name: str, work: Path, rows: Path, seconds: float) -> Section:
    """One of ``SECTIONS`` in a process of its own; in another behind the row of which one dies."""
    until = time.monotonic() + seconds
    while True:
        known = len(rows_in(rows))
        left = max(0.0, until - time.monotonic())
        request = {"name": name, "folder": str(work), "rows": str(rows), "seconds": left}
        try:
            return Section.from_json(in_fresh_process(measure, request, left + GRACE))
        except Raised as error:
            return Section(name, str(SECTIONS[name].measure.__doc__), not_measured=str(error))
        except NoAnswer as error:
            if len(rows_in(rows)) == known:  # not in a row, and so no better the next time
                return Section(name, str(SECTIONS[name].measure.__doc__), not_measured=str(error))


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """A section measured here, as JSON."""
    sheet = Sheet(Path(request["rows"]), request["seconds"])
    return SECTIONS[request["name"]].measure(Path(request["folder"]), sheet).to_json()


def _rows_to_go_on_with(folder: Path, diagnosis: Diagnosis) -> Path:
    """The folder of the rows that an earlier run measured; empty where that was another machine, or other versions."""
    rows, gpu = folder / ROWS, diagnosis.findings.gpu
    packages = {package.name: package.version for package in diagnosis.findings.packages.values()}
    here = json.dumps([str(diagnosis.machine), None if gpu is None else asdict(gpu), packages], sort_keys=True)
    if rows.exists() and (not (rows / MACHINE).exists() or (rows / MACHINE).read_text(encoding="utf-8") != here):
        shutil.rmtree(rows)
    rows.mkdir(exist_ok=True)
    (rows / MACHINE).write_text(here, encoding="utf-8")
    for name in SECTIONS:
        forget_unmeasured(rows / f"{name}.jsonl")
    return rows


def _write(report: GpuReport, folder: Path) -> None:
    for name, text in ((MARKDOWN, report.to_markdown()), (JSON, json.dumps(report.to_json(), indent=1) + "\n")):
        with replacing(folder / name) as file:
            file.write(text.encode())
