"""Running what is missing, by a stand-in for the trainer: what is skipped, shared, resumed, reported, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import RECIPE, STAND_IN, Quiet, run_all

from packnet_deploy.experiments.design import Design
from packnet_deploy.experiments.folder import ExperimentsFolder
from packnet_deploy.experiments.runner import execute

Designed = Callable[..., Design]


def states(design: Design, out: ExperimentsFolder) -> list[str]:
    return [out.of(run).state for run in design.runs]


def test_what_is_missing_is_run_and_only_that(designed: Designed, out: ExperimentsFolder) -> None:
    design = designed(RECIPE.replace("seeds = [0, 1]", "seeds = [0]"))
    assert set(states(design, out)) == {"missing"}
    assert [o.code for o in run_all(design, out, runs=3)] == [0] * 3
    assert states(design, out) == ["done"] * 3 + ["missing"] * (len(design.runs) - 3)
    before = out.of(design.runs[0]).log.stat().st_mtime_ns
    assert len(run_all(design, out)) == len(design.runs) - 3
    assert set(states(design, out)) == {"done"}
    assert out.of(design.runs[0]).log.stat().st_mtime_ns == before
    assert run_all(design, out) == []


def test_the_first_task_is_trained_once_and_its_files_are_linked(designed: Designed, out: ExperimentsFolder) -> None:
    design = designed(RECIPE.replace("[scale.small]", '[scale.small]\ncolumns = ["packnet-75"]', 1))
    run_all(design, out)
    base, *_ = design.runs
    packed = [out.of(t.run) for t in design.trials if t.column == "packnet-75"]
    deltas = [run.packs()[0].file(run.packs()[0].tasks[0]) for run in (out.of(base), *packed)]
    assert len({delta.stat().st_ino for delta in deltas}) == 1
    assert [entry.name for entry in out.of(base).packs()[0].tasks] == ["imagenet"], "and the base stays as it was"
    assert {row["stage"] for row in packed[0].rows("results.csv")} == {"imagenet", "birds", "cars"}


def test_a_failure_is_reported_and_the_others_go_on(
    designed: Designed, out: ExperimentsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = designed(RECIPE.replace('orders = "all"', 'orders = "each"').replace("seeds = [0, 1]", "seeds = [0]"))
    monkeypatch.setenv("STAND_IN_FAIL", "cars")
    outcomes = {o.run.name: o for o in run_all(design, out)}
    assert len(outcomes) == len(design.runs)
    for run in design.runs:
        if any(task["name"] == "cars" for task in run.tasks):
            assert outcomes[run.name].code == 1
            assert outcomes[run.name].reason.startswith("packnet: train: the loss is nan at step 1")
            assert out.of(run).state == "partial"
        else:
            assert outcomes[run.name].code == 0
    monkeypatch.delenv("STAND_IN_FAIL")
    assert all(o.code == 0 for o in run_all(design, out))
    assert set(states(design, out)) == {"done"}


def test_runs_whose_first_task_failed_are_not_started(
    designed: Designed, out: ExperimentsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = designed()
    monkeypatch.setenv("STAND_IN_FAIL", "imagenet")
    outcomes = run_all(design, out)
    assert len(outcomes) == len(design.runs)
    lost = [o for o in outcomes if o.code is None]
    assert {o.run.name for o in lost} == {t.run.name for t in design.trials if t.column == "packnet-75"}
    assert all(o.reason == f"its first task failed: {design.runs[0].name}" for o in lost)


def test_jobs_share_the_cores(designed: Designed, out: ExperimentsFolder, tmp_path: Path) -> None:
    script = tmp_path / "threads.py"
    script.write_text("import os; print(os.environ['OMP_NUM_THREADS'])")
    design = designed()
    execute(design.runs[:1], out, Path(), Quiet(), jobs=10_000, trainer=(sys.executable, str(script)))
    assert out.of(design.runs[0]).last_words() == "1"


def test_the_error_is_told_from_what_is_printed_after_it(designed: Designed, out: ExperimentsFolder) -> None:
    folder = out.of(designed().runs[0])
    assert folder.last_words() == ""
    folder.path.mkdir(parents=True)
    folder.log.write_text("training\npacknet: no free weights\nconv1  27 weights\n\n")
    assert folder.last_words() == "packnet: no free weights"
    folder.log.write_text("Traceback\n  line\nKeyError: 3\n")
    assert folder.last_words() == "KeyError: 3"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_the_children_and_is_gone_on_from(
    designed: Designed, out: ExperimentsFolder, tmp_path: Path, number: signal.Signals
) -> None:
    """Of a real process: the child of an experiment that is told to stop must not train on."""
    design = designed(RECIPE.replace("seeds = [0, 1]", "seeds = [0]"))
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from comparison import *; from packnet_deploy.experiments.design import design_of
from packnet_deploy.experiments.recipe import read_experiment
path = Path({str(tmp_path / "comparison.toml")!r})
design = design_of(read_experiment(path, "small"), "")
execute(design.runs, ExperimentsFolder(Path({str(out.path)!r})), Path(), Quiet(), 2, STAND_IN)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "STAND_IN_SECONDS": "0.5"}, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 20
    while not any(out.of(run).rows("log.csv") for run in design.runs) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(number)
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode != 0
    assert (b"Terminated" if number == signal.SIGTERM else b"KeyboardInterrupt") in errors
    rows = [len(out.of(run).rows("log.csv")) for run in design.runs]
    assert any(rows)
    time.sleep(1.2)
    assert [len(out.of(run).rows("log.csv")) for run in design.runs] == rows
    assert "done" not in states(design, out)
    assert all(o.code == 0 for o in execute(design.runs, out, Path(), Quiet(), 2, STAND_IN))
