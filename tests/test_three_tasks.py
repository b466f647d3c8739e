"""train/three_tasks.py, started as a user would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from packnet_deploy.pack import Pack
from packnet_deploy.runners.verify import verify_pack

SCRIPT = Path(__file__).parents[1] / "train" / "three_tasks.py"
pytestmark = pytest.mark.slow

TASKS = ["letters", "digits", "textures"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder it was run in, and what it printed; one epoch, no retraining."""
    folder = tmp_path_factory.mktemp("three_tasks")
    command = [sys.executable, "-W", "error::UserWarning", str(SCRIPT), "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_it_leaves_a_pack_of_three_tasks_that_verifies(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    pack = Pack.open(folder / "three_tasks.pack")
    assert [entry.name for entry in pack.tasks] == TASKS
    assert all(check.passes for check in verify_pack(pack))
    owners = np.concatenate([owner.reshape(-1) for owner in pack.bank().owners.values()])
    held = np.bincount(owners, minlength=4)[1:] / owners.size
    assert held == pytest.approx([0.25, 0.25 * 0.75, 0.25 * 0.75**2], abs=0.001)
    assert {path.name for path in folder.iterdir()} == {"three_tasks.pack", *(f"{task}.onnx" for task in TASKS)}


def test_it_says_how_every_task_does_and_that_older_ones_did_not_move(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert re.findall(r"^(\w+): [\d.]+% errors on test images", printed, re.MULTILINE) == TASKS
    assert re.findall(r"logits of (\w+) moved by (\S+)$", printed, re.MULTILINE) == [
        ("letters", "0"),
        ("letters", "0"),
        ("digits", "0"),
    ]
    assert re.findall(r"^(\w+): verified, exported to \1\.onnx$", printed, re.MULTILINE) == TASKS


def test_it_is_short() -> None:
    """It is there to be read."""
    lines = SCRIPT.read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) < 62
