"""Calls of the CUDA driver, as they arrive at a stand-in for it (libcuda_on_host.cpp): NOT at a GPU.

Each check (device_checks.py) runs in a process of its own, in which the dynamic linker finds the stand-in first.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from host_kernels import build

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or importlib.util.find_spec("cuda") is None,
    reason="needs Linux, to put a library in the place of another, and cuda-python",
)


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in."""
    folder = tmp_path_factory.mktemp("libcuda")
    build(folder, HERE / "libcuda_on_host.cpp", folder / "libcuda.so.1")
    return folder


def run(check: str, libcuda: Path, folder: Path, **environment: str) -> None:
    paths = {"LD_LIBRARY_PATH": str(libcuda), "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, HERE / "device_checks.py", check, folder]
    done = subprocess.run(
        command, env={**os.environ, **paths, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "check",
    [
        "the_gpu",
        "memory_and_copies",
        "kernels",
        "graphs",
        "the_context_stays",
        "the_gpus_clock",
        "another_thread",
        "another_gpu",
        "failures",
        "an_engine",
    ],
)
def test_on_the_stand_in(check: str, libcuda: Path, tmp_path: Path) -> None:
    run(check, libcuda, tmp_path)


def test_a_driver_that_does_not_start_is_no_gpu(libcuda: Path, tmp_path: Path) -> None:
    run("no_gpu", libcuda, tmp_path, STAND_IN_FAILS="cuInit")
