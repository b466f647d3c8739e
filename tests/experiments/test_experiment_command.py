"""``packnet experiment`` and ``packnet report`` as a user meets them; the slow test runs the whole road for real."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from comparison import RECIPE, STAND_IN

from packnet_deploy.cli.app import run
from packnet_deploy.experiments import runner

TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PACKNET_DATA", raising=False)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_without_a_recipe_they_are_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "experiment")
    assert code == 0
    assert "table2" in out
    assert "paper, small" in out


def test_a_dry_run_lists_the_runs_and_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "experiment", TINY, "--scale", "small", "--dry-run")
    assert code == 0
    assert out.count(" missing ") == 5
    assert "packnet-quickstart-textures-s1-" in out
    assert list(here.iterdir()) == []


def test_images_and_weights_that_are_not_there_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "experiment", "table2", "--scale", "small", "--dry-run")
    assert code == 0
    assert f"not there: {here}/dtd10" in out
    code, _, err = call(capsys, "experiment", "table2", "--scale", "small", "--data-root", "elsewhere")
    assert code == 3
    assert err.count("\n") == 1
    assert "elsewhere/dtd10" in err
    assert "elsewhere/weights/squeezenet1_1_imagenet.pth" in err
    assert "--data-root or $PACKNET_DATA" in err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("experiment", "table9"), 2, "table9: expected a recipe's file or the name of one of:"),
        (("experiment", "gone.toml"), 3, "gone.toml: the experiment recipe cannot be read"),
        (("experiment", "table2", "--scale", "huge"), 2, "no scale 'huge'; it has: paper, small"),
        (("experiment", "table2", "--jobs", "0"), 2, "--jobs"),
        (("report", "gone"), 3, "gone: holds no experiments"),
        (("report",), 2, "DIR"),
    ],
)
def test_mistakes_are_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    got, _, err = call(capsys, *arguments)
    assert got == code
    assert message in err
    assert err.count("\n") == 1


def test_a_run_that_fails_makes_the_exit_code_1(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "execute", partial(runner.execute, trainer=STAND_IN))
    monkeypatch.setenv("STAND_IN_FAIL", "imagenet")
    path = here / "comparison.toml"
    path.write_text(RECIPE.replace("seeds = [0, 1]", "seeds = [0]"))
    code, out, err = call(capsys, "experiment", path, "--scale", "small", "--jobs", 2)
    assert code == 1
    assert "FAILED: packnet: train: the loss is nan at step 1" in out
    assert "FAILED: its first task failed" in out
    assert err.startswith("packnet: 6 of 6 runs failed")
    assert "/train.log" in err
    assert err.count("\n") == 1
    monkeypatch.delenv("STAND_IN_FAIL")
    code, out, _ = call(capsys, "experiment", path, "--scale", "small", "--jobs", 2)
    assert code == 0
    assert "all 6 runs are done\nnext: packnet report experiments\n" in out
    assert call(capsys, "report", "experiments")[0] == 0
    assert (here / "experiments" / "report.html").is_file()


@pytest.mark.slow
def test_the_whole_road(here: Path) -> None:
    """Real training of a tiny recipe, run twice, then its report."""

    def packnet(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "packnet_deploy", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)

    first = packnet("experiment", TINY, "--scale", "small", "--jobs", 2)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.count(": done in ") == 5
    second = packnet("experiment", TINY, "--scale", "small")
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(" done ") == 5
    assert ": done in " not in second.stdout
    report = packnet("report", "experiments", "-o", "report.html")
    assert report.returncode == 0, report.stderr
    text = (here / "report.md").read_text("utf-8")
    assert "Incomplete" not in text
    row = next(line for line in text.splitlines() if line.startswith("| Textures"))
    assert float(row.split("|")[2].split()[0]) < 90, "PackNet has learnt something: a guess is wrong nine times in ten"
    assert "| PackNet 0.50: Digits | 0<br>± 0.00, n = 2 |" in text, "and has not changed the first task by one image"
    assert "n = 2" in row
    assert (here / "report.html").read_text("utf-8").count("<svg") >= 3
