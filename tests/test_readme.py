"""README tells the truth: its commands run as printed, its links lead somewhere, its tree is the tree."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from packnet_deploy.cli.app import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
QUICK = ["--epochs", "1", "--retrain-epochs", "1", "--device", "cpu"]  # added to README's training lines, for time only
BRIEF = ["--seconds", "0.05"]  # and to its bench line


def block(name: str) -> str:
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no block {name!r}"
    return found[1]


def packnet_lines(name: str) -> list[list[str]]:
    lines = [line.split() for line in block(name).splitlines() if line]
    assert all(line[0] == "packnet" for line in lines)
    return [line[1:] for line in lines]


def images(root: Path, classes: int) -> None:
    rng = np.random.default_rng(classes)
    for part in ("train", "test"):
        for label in range(classes):
            (root / part / f"kind{label}").mkdir(parents=True)
            for index in range(4):
                pixels = rng.integers(0, 255, (72, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / f"kind{label}" / f"{index}.png")


def test_the_command_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "data/flowers", 3)
    images(tmp_path / "data/monkeys", 2)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), "squeezenet1_1.pth")
    for arguments in packnet_lines("images"):
        training = arguments[0] == "train" and "--data" in arguments
        if training and "monkeys" in arguments:
            device = shutil.copytree("packnet.pack", "elsewhere/device.pack")
        assert run(arguments + (QUICK if training else BRIEF if arguments[0] == "bench" else [])) == 0, arguments
    assert {p.stem for p in tmp_path.glob("*.onnx")} == {"pretrained", "flowers", "monkeys"}
    extract, apply = packnet_lines("delta")
    assert run(extract) == 0
    shutil.move(device, "device.pack")
    assert run(apply) == 0
    assert (tmp_path / "device.pack/pack.json").read_bytes() == (tmp_path / "packnet.pack/pack.json").read_bytes()


def test_the_experiment_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in packnet_lines("experiment"):
        assert run(arguments) == 0, arguments


def test_the_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "README.md", "exec"), {})
    assert run(["verify", "--pack", "cats.pack"]) == 0


def test_every_block_is_run_here_or_installs_something() -> None:
    """A command nobody runs goes stale: what is left out is installing, which tests/test_bare_environment.py does."""
    for before, language, text in re.findall(r"(.*)\n```(\w+)\n(.*?)```", README, re.DOTALL | re.MULTILINE):
        marked = before.rpartition("\n")[2].startswith("<!-- run: ")
        assert marked or all(line.startswith(("make ", "pip install ")) for line in text.splitlines()), (language, text)


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tree_lists_what_is_there() -> None:
    section = README.partition("## The tree")[2]
    listed = re.findall(r"^([\w./]+?)(?:, [\w./]+)?  +\S", section, re.MULTILINE)
    assert all((ROOT / path).exists() for path in listed), listed
    packages = {path.parent.name for path in (ROOT / "packnet_deploy").glob("*/__init__.py")}
    drawn = section.partition("\ntrain/")[0]
    assert packages <= set(re.findall(r"\w+", drawn)), "drawn with what they import"
    top = {path.parts[0] for path in map(Path, listed)}
    assert {"docs", "engines", "packnet_deploy", "tests", "train"} <= top


def test_the_pack_section_is_short() -> None:
    section = README.partition("## The pack")[2].partition("\n## ")[0]
    assert len(section.strip().splitlines()) < 40


def test_the_two_commands_come_first_and_exist() -> None:
    assert README.index("make demo") < README.index("make test") < README.index("packnet train")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci/run").read_text()
