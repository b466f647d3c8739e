"""Every command ends with a line that says what can come next, in commands that can be copied."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_folders import image_folder

from packnet_deploy.cli.coming import command_line

Packnet = Callable[..., Any]


@pytest.mark.parametrize(
    ("line", "coming"),
    [
        ("inspect golden.pack", "packnet predict flowers IMAGE; packnet export --task flowers"),
        ("verify", "packnet export --all-tasks"),
        ("export --task birds -o b.onnx", "packnet predict birds IMAGE --onnx b.onnx; packnet bench b.onnx"),
        (
            "export --all-tasks --layout shared -o s",
            "packnet predict shapes IMAGE --onnx s; packnet bench s",
        ),
        ("export --task birds --format triton", "tritonserver --model-repository=models"),
        ("predict birds photos/test/class0/0.png", "packnet eval --task birds --data DIR, which says how often"),
        ("delta extract --task birds -o 'a b.delta'", "where the same pack lacks the task: packnet delta apply 'a b."),
        ("build --dry-run", "packnet build"),
        ("train --list-archs", "packnet train --task NAME --data DIR --arch NETWORK"),
        ("experiment", "packnet experiment NAME --scale small"),
    ],
)
def test_the_last_line_says_what_can_come_next(packnet: Packnet, here: Path, line: str, coming: str) -> None:
    image_folder(here / "photos")
    result = packnet(*shlex.split(line))
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1].startswith(f"next: {coming}")


def test_what_was_exported_can_be_asked_by_the_line_that_follows(packnet: Packnet, here: Path) -> None:
    image_folder(here / "photos")
    for layout, asked in (("dense", ("--all-tasks",)), ("shared", ("--all-tasks",)), ("selector", ())):
        exported = packnet("export", "--layout", layout, *asked, "-o", f"{layout} here{'' if asked else '.onnx'}")
        assert exported.code == 0, exported.err
        commands = exported.out.splitlines()[-1].removeprefix("next: ").split("; ")
        first = shlex.split(commands[0])[1:]
        result = packnet(*("photos/test/class0/0.png" if word == "IMAGE" else word for word in first))
        assert result.code == 0, (commands, result.err)


def test_a_pack_is_named_where_it_is_not_the_only_one_here(
    golden_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_line("verify", pack=golden_copy) == f"packnet verify --pack {golden_copy}"
    monkeypatch.chdir(tmp_path)
    assert command_line("verify", pack=golden_copy) == "packnet verify"
    (tmp_path / "other.pack").mkdir()
    assert (
        command_line("verify", "two words", pack=Path("golden.pack")) == "packnet verify 'two words' --pack golden.pack"
    )
