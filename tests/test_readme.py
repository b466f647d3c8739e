"""README tells the truth: its commands run as printed, its links lead somewhere, its tree is the tree."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from packnet_deploy.cli.app import run
from packnet_deploy.data import TaskData, builtin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MADE = ("cli.md", "api.md")  # pages of the site that docs/reference.py makes
QUICK = ["--epochs", "1", "--retrain-epochs", "1", "--device", "cpu"]  # added to README's training lines, for time only


def blocks_of(page: str, name: str) -> list[str]:
    found = re.findall(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found, f"{page} has no block {name!r}"
    return found


def packnet_lines(page: str, name: str) -> list[list[str]]:
    text = "\n".join(blocks_of(page, name))
    wanted = (line for line in text.splitlines() if line and not line.startswith("pip install "))
    lines = [shlex.split(line, comments=True) for line in wanted]
    assert all(line[0] == "packnet" for line in lines)
    return [line[1:] for line in lines]


def seed_torch_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What --weights imagenet would fetch, where torch keeps it: right in shape, and no network is needed."""
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    (home / "hub/checkpoints").mkdir(parents=True)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, home / "hub/checkpoints" / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(home))


def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's sets, eight images a class and part: the commands are what is tested."""
    real = builtin.load

    def load(name: str, seed: int = 0, val_fraction: float = 0.1) -> TaskData:
        data = real(name, seed, val_fraction)
        few = [
            np.concatenate([np.flatnonzero(part.labels == label)[:8] for label in range(len(data.classes))])
            for part in (data.train, data.test)
        ]
        return replace(data, train=data.train.subset(few[0]), test=data.test.subset(few[1]))

    monkeypatch.setattr(builtin, "load", load)


@pytest.mark.parametrize(("page", "blocks"), [("README.md", ("first", "second")), ("docs/tutorial.md", ("tutorial",))])
def test_the_command_blocks_run_as_printed(
    page: str, blocks: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, with nothing but what the lines before have made; for time alone, in fewer epochs."""
    monkeypatch.chdir(tmp_path)
    seed_torch_cache(tmp_path / "torch", monkeypatch)
    few_images(monkeypatch)
    lines = [line for name in blocks for line in packnet_lines(page, name)]
    assert len(lines) >= 9
    for arguments in lines:
        assert run(arguments + (QUICK if arguments[0] == "train" else [])) == 0, arguments
    assert (tmp_path / "digits.onnx").is_file()
    assert (tmp_path / "textures.delta").is_file()


def test_the_first_screen_leads_to_an_onnx_file() -> None:
    """Five commands, the first of them installing, before line 25."""
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    block = re.search(r"```sh\n(.*?)```", screen, re.DOTALL)
    assert block
    commands = [line.split()[:2] for line in block[1].splitlines()]
    assert commands == [["pip", "install"], *(["packnet", name] for name in ("demo", "train", "predict", "export"))]


def test_the_experiment_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in packnet_lines("README.md", "experiment"):
        assert run(arguments) == 0, arguments


def test_the_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks_of("docs/training.md", "python")
    exec(compile(code, "training.md", "exec"), {})
    assert run(["verify", "--pack", "cats.pack"]) == 0


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or target in MADE or (page.parent / target).exists(), (
                f"{page.name}: {target}"
            )


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


def test_what_readme_says_make_does_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci/run").read_text()
