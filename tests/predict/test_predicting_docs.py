"""docs/predicting.md, run as printed; the lines that need a camera, a GPU or a whole data set aside."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.cli.app import run
from packnet_deploy.pack import Pack

PAGE = (Path(__file__).parents[2] / "docs/predicting.md").read_text(encoding="utf-8")


@pytest.fixture
def birds(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page speaks of: birds.pack, photos, a small data set."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(golden, "birds.pack")
    rng = np.random.default_rng(5)
    names = ["photo.jpg", "a.jpg", "b.jpg"]
    for name in Pack.open(golden).header("flowers").classes:
        names += [f"{folder}/{name}/{number}.jpg" for folder in ("photos", "data/flowers/test") for number in (0, 1)]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(name)
    return tmp_path


def test_the_commands(birds: Path) -> None:
    lines = re.findall(r"^packnet (.*?)\s*(?:#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) >= 8
    assert run(["export", "--task", "flowers"]) == 0
    for line in lines:
        if "--plan" not in line:
            arguments = shlex.split(line.partition(" > ")[0])
            assert run(arguments) == 0, line
    assert Path("flowers.svg").exists()
    assert len(Path("flowers.csv").read_text(encoding="utf-8").splitlines()) == 11


def test_the_python_lines(birds: Path, capsys: Any) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "predicting.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    classes = Pack.open("birds.pack").header("flowers").classes
    assert lines[0].startswith(classes)
    assert [line.split(" ")[0] for line in lines[1:]] == ["a.jpg", "b.jpg"]
