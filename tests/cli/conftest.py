"""The command line, called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from packnet_deploy.cli.app import run

for folder in ("trt", "export"):  # plans for the stand-in TensorRT, and the packs
    sys.path.append(str(Path(__file__).parents[1] / folder))


class Result(NamedTuple):
    code: int
    out: str
    err: str


Packnet = Callable[..., Result]


@pytest.fixture
def packnet(capsys: pytest.CaptureFixture[str]) -> Packnet:
    """Run a command line: ``packnet("verify", "--pack", path)``."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def here(golden_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that holds ``golden.pack`` and nothing else."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
