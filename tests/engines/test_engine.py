"""packnet::engine as it is installed: linked, shared or not, by CMake and pkg-config, from Python; and packnet-infer.

All of it is built against the stand-ins for TensorRT and CUDA (engines/tests/stub), whose engines really run; and
against the real headers where TensorRT_ROOT names some. What a GPU does is not tested here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from native import BUILD, SOURCE, Toolchain, unpack_debian_package
from PIL import Image
from plans import write_plan
from through_ctypes import call_all

from packnet_deploy.fresh import in_fresh_process
from packnet_deploy.pack import Pack
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.options import BuildOptions

pytestmark = pytest.mark.slow

SWITCHES = ("refit", "bind", "selector", "none")


@dataclass(frozen=True)
class Installed:
    """packnet as ``cmake --install`` leaves it, and the TensorRT that it was built with."""

    prefix: Path
    sdk: Path

    @property
    def places(self) -> tuple[str, ...]:
        return (f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DTensorRT_ROOT={self.sdk}", f"-DCUDA_ROOT={self.sdk}")


@pytest.fixture(scope="session")
def sdk(toolchain: Toolchain) -> Path:
    """The stand-ins, as a folder that TensorRT_ROOT can name."""
    build, prefix = BUILD / "stub", BUILD / "sdk"
    source = SOURCE / "tests" / "stub"
    toolchain.run(toolchain.cmake, "-S", source, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}")
    toolchain.run(toolchain.cmake, "--build", build, "--target", "install")
    return prefix


@pytest.fixture(scope="session", params=["static", "shared"])
def installed(
    toolchain: Toolchain, sdk: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Installed:
    build, prefix = BUILD / "installed", tmp_path_factory.mktemp(request.param)  # one build: objects are the same
    shared = "ON" if request.param == "shared" else "OFF"
    toolchain.run(
        *(toolchain.cmake, "-S", SOURCE, "-B", build, "-DCMAKE_BUILD_TYPE=Release"),
        *(f"-DBUILD_SHARED_LIBS={shared}", f"-DTensorRT_ROOT={sdk}", f"-DCUDA_ROOT={sdk}"),
        *("-DPACKNET_ENGINE=ON", "-DPACKNET_CUDA_KERNELS=OFF", "-DPACKNET_TESTS=OFF", "-DPACKNET_WERROR=ON"),
    )
    toolchain.run(toolchain.cmake, "--build", build, "--parallel", "2")
    toolchain.run(toolchain.cmake, "--install", build, "--prefix", prefix)
    return Installed(prefix, sdk)


@pytest.fixture(scope="session")
def programs(toolchain: Toolchain, installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, built outside the tree against the installed libraries."""
    if not unpack_debian_package("libstb-dev", BUILD / "stb"):
        pytest.skip("packnet-infer cannot be built here: no stb_image; run: apt-get install libstb-dev")
    build = tmp_path_factory.mktemp("examples")
    stb = BUILD / "stb" / "usr" / "include" / "stb"
    source = SOURCE / "examples"
    toolchain.run(toolchain.cmake, "-S", source, "-B", build, *installed.places, f"-DSTB_INCLUDE_DIR={stb}")
    toolchain.run(toolchain.cmake, "--build", build)
    return build


@pytest.fixture(scope="session")
def toy(toolchain: Toolchain) -> Path:
    """The program that writes plans which the stand-in for TensorRT runs."""
    return toolchain.build("asan", targets=("packnet-toy-plan",)) / "tests" / "packnet-toy-plan"


def toy_plan(toy: Path, folder: Path, pack: Path, switch: str) -> Path:
    """A plan of the golden pack."""
    plan = folder / f"{switch}.plan"
    subprocess.run([toy, pack, plan, switch], check=True)
    return plan


def done(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def refusal(code: int, *words: str | Path) -> str:
    """The one line that a program refuses with."""
    run = done(*words)
    assert run.returncode == code, run.stderr
    assert run.stderr.startswith(f"{Path(words[0]).name}: ")
    assert run.stderr.count("\n") == 1
    return run.stderr


# -- packnet-infer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", SWITCHES)
def test_packnet_infer(programs: Path, toy: Path, golden: Path, tmp_path: Path, switch: str) -> None:
    plan = toy_plan(toy, tmp_path, golden, switch)
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)).save(picture)
    infer = programs / "packnet-infer"
    shown = done(infer, golden, plan, "flowers", picture, picture)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("crocus") == 2
    assert "2 images in" in shown.stdout
    for options in (["--bench"], ["--bench", "--cuda-graphs"], ["--bench", "--resident", "2", "--bank", "host"]):
        assert "batch 1: p50" in done(infer, golden, plan, "flowers", picture, *options).stdout
    checked = done(infer, golden, plan, "--check")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count("logits differ by up to") == (1 if switch == "none" else 3)
    if switch != "none":
        assert "switch: p50" in done(infer, golden, plan, "--switch-bench").stdout


def test_packnet_infer_refuses_in_one_line(programs: Path, toy: Path, golden: Path, tmp_path: Path) -> None:
    infer, plan = programs / "packnet-infer", tmp_path / "golden.plan"
    assert "golden.plan.json: no such file" in refusal(3, infer, golden, plan, "--switch-bench")
    write_plan(plan, Pack.open(golden), BuildOptions())
    plan.write_bytes(b"not an Engine")
    assert "golden.plan: damaged: sha256" in refusal(4, infer, golden, plan, "--switch-bench")
    write_plan(plan, Pack.open(golden), BuildOptions(), graph_sha256="0" * 64)
    assert "has another backbone" in refusal(4, infer, golden, plan, "--switch-bench")
    write_plan(plan, Pack.open(golden), BuildOptions(backend="tensorrt"))
    assert "TensorRT, reading the plan" in refusal(3, infer, golden, plan, "--check")
    bind = toy_plan(toy, tmp_path, golden, "bind")
    assert "option device): expected 0..1, got 7" in refusal(3, infer, golden, bind, "--check", "--device", "7")
    assert "option resident: expected 1..255, got 0" in refusal(4, infer, golden, bind, "--check", "--resident", "0")
    assert "one of the plan's: shapes, birds, flowers" in refusal(4, infer, golden, bind, "cars", "car.jpg")
    for words in ([], [golden, "x.plan"], [golden, "x.plan", "birds", "--fast"], [golden, "a", "b", "--switch-bench"]):
        run = done(infer, *words)
        assert run.returncode == 2
        assert run.stderr.startswith("usage: packnet-infer PACK PLAN TASK IMAGE...")


# -- C, and everything that can call it -----------------------------------------------------------------------------


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_program_in_c(programs: Path, toy: Path, golden: Path, tmp_path: Path, switch: str) -> None:
    plan = toy_plan(toy, tmp_path, golden, switch)
    run = done(programs / "infer", plan, golden, "flowers")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("flowers: ")
    assert "got 'cars'" in refusal(2, programs / "infer", plan, golden, "cars")
    assert "no such file" in refusal(3, programs / "infer", tmp_path / "gone.plan", golden, "flowers")
    assert "no such folder" in refusal(3, programs / "infer", plan, tmp_path / "gone.pack", "flowers")


def test_pkg_config_says_how_to_link(
    installed: Installed, toy: Path, golden: Path, tmp_path: Path, toolchain: Toolchain
) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config; run: apt-get install pkg-config")
    (folder,) = (path.parent for path in installed.prefix.rglob("packnet-engine.pc"))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder)}

    def asked(*words: str) -> list[str]:
        run = subprocess.run(["pkg-config", *words], env=environment, capture_output=True, text=True, check=True)
        return run.stdout.split()

    assert asked("--variable=backend_version", "packnet-engine") == ["10.13.3.9"]
    assert asked("--variable=cuda_version", "packnet-engine") == ["13.0"]
    program, source = tmp_path / "infer", SOURCE / "examples" / "infer.c"
    flags = asked("--cflags", "--libs", "packnet-engine")
    places = [f"-Wl,-rpath,{folder.parent}", f"-Wl,-rpath,{installed.sdk / 'lib'}"]
    toolchain.run("cc", "-std=c99", "-Wall", "-Werror", "-o", program, source, *flags, *places)
    assert done(program, toy_plan(toy, tmp_path, golden, "bind"), golden, "birds").stdout.startswith("birds: ")


def test_shared_libraries_show_what_headers_declare(installed: Installed) -> None:
    libraries = {path.name: path for path in installed.prefix.rglob("libpacknet*.so")}
    if not libraries:
        pytest.skip("static libraries hide nothing")
    assert sorted(libraries) == ["libpacknet.so", "libpacknet_engine.so"]
    assert libraries["libpacknet_engine.so"].resolve().name == "libpacknet_engine.so.0.1.0"
    symbols = done("nm", "--dynamic", "--defined-only", "--format=just-symbols", libraries["libpacknet_engine.so"])
    shown = set(symbols.stdout.split())
    header = (SOURCE / "include" / "packnet" / "packnet.h").read_text()
    assert shown == set(re.findall(r"^PACKNET_API [^(]*?(\w+)\(", header, re.MULTILINE))
    reader = done("nm", "--dynamic", "--defined-only", "--demangle", libraries["libpacknet.so"]).stdout
    assert "packnet::open_pack(" in reader
    assert "packnet::detail::" not in reader.replace("packnet::detail::Chain const", "")


@pytest.mark.parametrize("switch", SWITCHES[:3])
def test_python_calls_it_through_ctypes(
    installed: Installed, toy: Path, golden: Path, tmp_path: Path, switch: str
) -> None:
    """In a process of its own: where PyTorch has loaded the real CUDA runtime, that is the one of this name."""
    found = list(installed.prefix.rglob("libpacknet_engine.so"))
    if not found:
        pytest.skip("ctypes loads shared libraries")
    plan = toy_plan(toy, tmp_path, golden, switch)
    in_fresh_process(call_all, [str(path) for path in (found[0], plan, golden)])


# -- CMake's config -------------------------------------------------------------------------------------------------


def test_the_config_says_what_it_was_built_with(installed: Installed, toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(app CXX)\nfind_package(packnet 0.1 COMPONENTS engine)\n"
        'message(STATUS "${packnet_FOUND} ${packnet_BACKEND} ${packnet_BACKEND_VERSION} ${packnet_CUDA_VERSION}")\n'
    )
    said = toolchain.run(
        toolchain.cmake, "-S", tmp_path, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={installed.prefix}"
    )
    assert "-- 1 tensorrt 10.13.3.9 13.0" in said  # and its libraries are where they were


# -- the real headers -----------------------------------------------------------------------------------------------


@pytest.mark.tensorrt
@pytest.mark.parametrize("switch", SWITCHES[:3])
def test_against_the_real_headers(toolchain: Toolchain, golden: Path, tmp_path: Path, switch: str) -> None:
    if "TensorRT_ROOT" not in os.environ:
        pytest.skip("set TensorRT_ROOT (and CUDA_PATH) to a TensorRT with headers")
    build, prefix = BUILD / "engine", tmp_path / "installed"
    toolchain.run(
        *(toolchain.cmake, "-S", SOURCE, "-B", build, "-DCMAKE_BUILD_TYPE=Release"),
        *("-DPACKNET_ENGINE=ON", "-DPACKNET_TESTS=OFF", "-DPACKNET_WERROR=ON"),
    )
    toolchain.run(toolchain.cmake, "--build", build, "--parallel", "2")
    toolchain.run(toolchain.cmake, "--install", build, "--prefix", prefix)
    examples = tmp_path / "examples"
    source = SOURCE / "examples"
    toolchain.run(toolchain.cmake, "-S", source, "-B", examples, f"-DCMAKE_PREFIX_PATH={prefix}", "-DSTB_INCLUDE_DIR=/")
    toolchain.run(toolchain.cmake, "--build", examples, "--target", "infer")
    write_plan(tmp_path / "golden.plan", Pack.open(golden), BuildOptions(switch=switch))
    if find_gpu() is None:
        said = refusal(3, examples / "infer", tmp_path / "golden.plan", golden, "birds")
        assert "expected an NVIDIA GPU and its driver" in said
