"""packnet::engine and packnet-infer, built against a TensorRT with headers where TensorRT_ROOT names one.

What they do on a GPU is not tested here. What they refuse before they need one is.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from native import BUILD, SOURCE, Toolchain, unpack_debian_package
from plans import write_plan

from packnet_deploy.pack import Pack
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.options import BuildOptions

pytestmark = [pytest.mark.slow, pytest.mark.tensorrt]


@pytest.fixture(scope="session")
def infer(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """packnet-infer, built outside the tree against the installed library."""
    if "TensorRT_ROOT" not in os.environ:
        pytest.skip("packnet::engine cannot be built here: set TensorRT_ROOT to a TensorRT with headers")
    if not unpack_debian_package("libstb-dev", BUILD / "stb"):
        pytest.skip("packnet-infer cannot be built here: no stb_image; run: apt-get install libstb-dev")
    build, installed = BUILD / "engine", tmp_path_factory.mktemp("installed")
    toolchain.run(
        *(toolchain.cmake, "-S", SOURCE, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *toolchain.options),
        *("-DPACKNET_ENGINE=ON", "-DPACKNET_TESTS=OFF", "-DPACKNET_WERROR=ON"),
    )
    toolchain.run(toolchain.cmake, "--build", build, "--parallel", "2")
    toolchain.run(toolchain.cmake, "--install", build, "--prefix", installed)
    examples = tmp_path_factory.mktemp("examples")
    places = f"-DCMAKE_PREFIX_PATH={installed};{BUILD / 'stb' / 'usr'}"
    toolchain.run(toolchain.cmake, "-S", SOURCE / "examples", "-B", examples, places)
    toolchain.run(toolchain.cmake, "--build", examples)
    return examples / "packnet-infer"


def refusal(infer: Path, code: int, *words: str | Path) -> str:
    """The one line that packnet-infer refuses with."""
    done = subprocess.run([infer, *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("packnet-infer: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("switch", ["refit", "bind", "selector"])
def test_without_a_gpu_one_line_says_so(infer: Path, golden: Path, tmp_path: Path, switch: str) -> None:
    if find_gpu() is not None:
        pytest.skip("there is a GPU")
    write_plan(tmp_path / "golden.plan", Pack.open(golden), BuildOptions(switch=switch))
    said = refusal(infer, 3, golden, tmp_path / "golden.plan", "birds", "bird.jpg")
    assert "expected an NVIDIA GPU and its driver" in said


def test_files_are_checked_before_the_machine(infer: Path, golden: Path, tmp_path: Path) -> None:
    plan = tmp_path / "golden.plan"
    assert "golden.plan.json: no such file" in refusal(infer, 4, golden, plan, "--switch-bench")
    write_plan(plan, Pack.open(golden), BuildOptions())
    plan.write_bytes(b"not an Engine")
    assert "golden.plan: damaged: sha256" in refusal(infer, 4, golden, plan, "--switch-bench")
    write_plan(plan, Pack.open(golden), BuildOptions(), graph_sha256="0" * 64)
    assert "has another backbone" in refusal(infer, 4, golden, plan, "--switch-bench")


def test_wrong_usage_shows_the_usage(infer: Path, golden: Path) -> None:
    for words in ([], [golden, "x.plan"], [golden, "x.plan", "birds", "--fast"], [golden, "a", "b", "--switch-bench"]):
        done = subprocess.run([infer, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: packnet-infer PACK PLAN TASK IMAGE...")
