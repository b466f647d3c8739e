"""The command itself: help, exit codes, one line an error, and what it does not import."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from image_folders import image_folder

from packnet_deploy.cli import app as module
from packnet_deploy.cli.app import COMMANDS, app

Packnet = Callable[..., Any]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_first_help_line_is_the_one_listed(packnet: Packnet, name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]
    result = packnet(name, "--help")
    assert result.code == 0
    assert result.out.startswith("Usage: packnet")


def test_help_and_version(packnet: Packnet) -> None:
    for arguments in (("--help",), ("-h",), ("--version",)):
        assert packnet(*arguments).code == 0
    assert all(name in packnet("--help").out for name in COMMANDS)
    assert packnet() == packnet("--help"), "a new user's first call"


def test_every_flag_of_every_command_says_what_it_does(packnet: Packnet) -> None:
    def visit(command: click.Command, *names: str) -> None:
        assert packnet(*names, "-h").code == 0
        assert command.help, names
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (*names, parameter.name)
        for name in command.list_commands(click.Context(command)) if isinstance(command, click.Group) else ():
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            visit(inner, *names, name)

    visit(app)


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("--bogus",),
        ("-v",),
        ("train", "--bogus"),
        ("eval",),
        ("inspect",),
        ("delta",),
        ("delta", "frobnicate"),
        ("delta", "extract"),
        ("delta", "apply"),
        ("bench", "--seconds", "0"),
        ("bench", "--batch-size", "0"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(packnet: Packnet, arguments: tuple[str, ...]) -> None:
    result = packnet(*arguments)
    assert result.code == 2
    *trace, line = result.err.splitlines()
    assert not trace or arguments == ("-v",)
    assert re.fullmatch(r"packnet: .{,200}", line), "a line, not a page of help squeezed into one"


def test_verbose_shows_the_traceback_and_the_line(packnet: Packnet) -> None:
    result = packnet("-v", "inspect", "nowhere")
    assert result.code == 3
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1] == (
        "packnet: nowhere: expected a pack, a delta, an ONNX file or a plan, got nothing: no such file"
    )


@pytest.mark.parametrize(("package", "extra"), [("torch", "train"), ("sklearn", "train"), ("PIL", "images")])
def test_a_missing_package_names_its_extra(
    packnet: Packnet, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    def missing(*arguments: Any) -> None:
        raise ModuleNotFoundError(f"No module named {package}", name=f"{package}.nn")

    monkeypatch.setattr(module.importlib, "import_module", missing)
    result = packnet("verify")
    assert result.code == 3
    assert f"pip install 'packnet-deploy[{extra}]'" in result.err


def test_a_bug_is_not_dressed_up_as_an_error(packnet: Packnet, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise ModuleNotFoundError("No module named typo", name="typo")

    monkeypatch.setattr(module.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        packnet("verify")


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh process has loaded after running ``code``."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(out.splitlines()[-1].split())


def test_the_networks_are_listed_without_torch() -> None:
    """What keeps `packnet train --list-archs` within a second: torchvision alone takes longer."""
    assert "torch" not in loaded_by("from packnet_deploy.cli.app import run\nrun(['train', '--list-archs'])")


HEAVY = {"numpy", "torch", "onnx", "onnxruntime", "rich", "safetensors", "PIL"}


def test_help_loads_nothing_heavy() -> None:
    """What keeps `packnet --help` within a quarter of a second; tests/benchmarks/start_and_export.py measures it."""
    assert not loaded_by("from packnet_deploy.cli.app import run\nrun(['--help'])") & HEAVY
    every = "".join(f"run(['{name}', '--help'])\n" for name in COMMANDS)
    assert not loaded_by(f"from packnet_deploy.cli.app import run\n{every}") & HEAVY


BLOCKED = "import sys\nfor name in ('torch', 'torchvision', 'tensorrt', 'tensorrt_rtx'): sys.modules[name] = None\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["inspect", "golden.pack"],
        ["verify"],
        ["export", "--all-tasks"],
        ["bench", "--task", "birds", "--seconds", "0.02", "--batch-size", "1"],
        ["delta", "extract", "--task", "birds"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_everything_but_training_works_without_torch(golden_copy: Path, arguments: list[str]) -> None:
    code = f"{BLOCKED}from packnet_deploy.cli.app import run\nsys.exit(run({arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=golden_copy.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_eval_works_without_torch_and_training_names_the_extra(golden_copy: Path) -> None:
    root = image_folder(golden_copy.parent / "birds", classes=1)
    for part in ("train", "test"):
        (root / part / "class0").rename(root / part / "Rotkehlchen")
    code = f"{BLOCKED}from packnet_deploy.cli.app import run\nsys.exit(run(sys.argv[1:]))"

    def packnet(*arguments: str) -> Any:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=golden_copy.parent, capture_output=True, text=True, check=False)

    measured = packnet("eval", "--task", "birds", "--data", "birds")
    assert measured.returncode == 0, measured.stderr
    assert "birds: accuracy " in measured.stdout
    training = packnet("train")
    assert training.returncode == 3
    assert training.stderr.count("\n") == 1
    assert "packnet-deploy[train]" in training.stderr


@pytest.mark.parametrize(
    ("words", "begun", "offers"),
    [
        ("packnet", "ver", ["verify"]),
        ("packnet eval --task", "f", ["flowers"]),
        ("packnet export --pack golden.pack --task", "", ["shapes", "birds", "flowers"]),
        ("packnet train --optimizer", "", ["sgd", "adamw"]),
        ("packnet train --framing", "w", ["whole"]),
        ("packnet eval --pack gone.pack --task", "", []),
        ("packnet build --task", "b", ["birds"]),
        ("packnet train --arch", "squeeze", ["squeezenet1_0", "squeezenet1_1"]),
        ("packnet train --weights", "im", ["imagenet", "im"]),  # the last leaves it to the shell: a file
        ("packnet train --data", "ph", ["ph"]),
        ("packnet export --layout", "s", ["sparse", "shared", "selector"]),
        ("packnet build --switch", "b", ["bind"]),
        ("packnet bench --backend", "t", ["torch", "tensorrt", "tensorrt-rtx"]),
        ("packnet predict", "f", ["flowers"]),
        ("packnet predict flowers", "ph", ["ph"]),
        ("packnet experiment", "table2", ["table2", "table2"]),
    ],
)
def test_a_shell_completes(here: Path, words: str, begun: str, offers: list[str]) -> None:
    from click.shell_completion import ShellComplete

    from packnet_deploy.cli.app import app

    found = ShellComplete(app, {}, "packnet", "_PACKNET_COMPLETE").get_completions(words.split()[1:], begun)
    assert [item.value for item in found] == offers
