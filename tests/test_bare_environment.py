"""The wheel, installed with its base dependencies alone in a fresh environment: everything but training works."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from packnet_deploy.cli.app import app

ROOT = Path(__file__).parents[1]


def commands(group: click.Group = app, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that there is, and every command of a command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        yield (*names, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*names, name))


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode and "hatchling" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("pip reaches no package index, so no wheel can be built")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"packnet_deploy"}
    assert "packnet_deploy/py.typed" in names
    assert "packnet_deploy/training/recipes/quickstart.toml" in names
    assert "packnet_deploy/trt/switch.cu" in names
    sources = {str(p.relative_to(ROOT)) for kind in ("*.py", "*.pyi") for p in (ROOT / "packnet_deploy").rglob(kind)}
    assert sources == {name for name in names if name.endswith((".py", ".pyi"))}


def test_a_bare_environment(wheel: Path, golden_copy: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    install = [str(bin_folder / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("pip reaches no package index")
    assert done.returncode == 0, done.stderr

    def packnet(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(bin_folder / "packnet"), *arguments]
        return subprocess.run(command, cwd=golden_copy.parent, capture_output=True, text=True, check=False)

    absent = subprocess.run(
        [str(bin_folder / "python"), "-c", "import torch"], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError" in absent.stderr, "or this test would show nothing"
    for arguments in (
        ["--help"],
        *([*names, "-h"] for names in commands()),
        ["inspect", "golden.pack"],
        ["verify"],
        ["export", "--all-tasks"],
        ["bench", "birds.onnx", "--seconds", "0.02"],
        ["delta", "extract", "--task", "birds"],
    ):
        done = packnet(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    for arguments, extra in ((["train"], "train"), (["eval", "--task", "birds", "--data", "."], "")):
        done = packnet(*arguments)
        assert done.returncode == 3, (arguments, done.stderr)
        assert done.stderr.count("\n") == 1
        assert f"packnet-deploy[{extra}" in done.stderr or not extra
