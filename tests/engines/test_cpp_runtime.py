"""The C++ runtime: its own tests, the installed package, and its reader held against Python's.

Python's reader is the oracle: the same weights to the bit. Verdicts on damaged files are test_cpp_conformance.py's.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import answers_of
from formats import described_pack, digest
from native import SOURCE, Toolchain
from pack_worlds import World, make_world

import packnet_deploy
from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack import Pack, ParamSpec

pytestmark = pytest.mark.slow

OF_THREADS = ("residents", "session", "c_interface", "engine", "engine_failures", "requests", "switching")
DTYPES = ("float32", "float16", "bfloat16")
# Several chunks of the C++ decoder (2^17 weights), and a size that ends inside a word and inside a byte.
LARGE = (ParamSpec("large.weight", (3, 87_391)), ParamSpec("small.weight", (5, 13)), ParamSpec("one.weight", (1,)))


def dump(folder: Path, packs: Sequence[Path]) -> list[dict[str, Any]]:
    """What the C++ reader makes of packs."""
    return answers_of(folder / "tests" / "packnet-dump", packs)


def test_ctest_under_the_sanitizers(toolchain: Toolchain, sanitized: Path) -> None:
    ctest = str(Path(toolchain.cmake).with_name("ctest"))
    report = toolchain.run(ctest, "--preset", "asan", "--no-tests=error")
    assert "100% tests passed" in report


def test_threads_under_the_thread_sanitizer(toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "probe.cpp").write_text("int main() {}")
    probe = tmp_path / "probe"
    built = ["c++", "-fsanitize=thread", "-o", probe, tmp_path / "probe.cpp"]
    if subprocess.run(built, check=False).returncode or subprocess.run([probe], check=False).returncode:
        pytest.skip("the compiler's thread sanitizer does not run here")
    toolchain.build("tsan", targets=[f"test_{subject}" for subject in OF_THREADS])
    ctest = str(Path(toolchain.cmake).with_name("ctest"))
    report = toolchain.run(ctest, "--preset", "tsan", "--no-tests=error")
    assert f"100% tests passed, 0 tests failed out of {len(OF_THREADS)}" in report


# -- the same weights -----------------------------------------------------------------------------------------------


def world(tasks: int, params: Sequence[ParamSpec] = LARGE) -> World:
    shares = [((0.4,), (0.0, 1.0, 0.5), (0.3,))[index % 3] for index in range(tasks)]
    return make_world(params, shares, [DTYPES[index % 3] for index in range(tasks)], seed=tasks)


def test_every_tensor_of_every_task_is_pythons(sanitized: Path, golden: Path, tmp_path: Path) -> None:
    packs = [golden]
    for tasks in (0, 1, 2, 5):
        packs.append(tmp_path / f"{tasks}.pack")
        world(tasks).build_unchecked(packs[-1])
    for path, got in zip(packs, dump(sanitized, packs), strict=True):
        assert got == described_pack(path)


def test_255_tasks(sanitized: Path, tmp_path: Path) -> None:
    """Python reads each task of these from the start; so only some of them are compared."""
    shares = [(0.01,)] * 254 + [(1.0,)]
    params = (ParamSpec("wide.weight", (101, 103)), ParamSpec("one.weight", (1,)))
    made = make_world(params, shares, [DTYPES[index % 3] for index in range(255)])
    made.build_unchecked(tmp_path / "many.pack")
    (got,) = dump(sanitized, [tmp_path / "many.pack"])
    assert len(got["tasks"]) == 255
    for index in range(1, 256):
        task = got["tasks"][index - 1]
        expected = {name: digest(values) for name, values in made.dense(index).items()}
        assert task["decoded"] == task["masked"] == expected
        assert task["frozen_sha256"] == task["stated_frozen_sha256"]
    assert got["owners"] == {name: digest(owner) for name, owner in made.owners.items()}


def test_packs_with_a_pattern(sanitized: Path, tmp_path: Path) -> None:
    params = (ParamSpec("conv.weight", (3, 8, 3, 3), pattern="2:4"), ParamSpec("fc.weight", (5, 13)))
    made = make_world(params, [(0.2,), (0.3,)])
    owner = made.owners["conv.weight"]
    owner[np.sort(np.argsort(owner.reshape(3, 2, 4, 3, 3), axis=2), axis=2).reshape(owner.shape) < 2] = 0
    made.build_unchecked(tmp_path / "kept.pack")
    owner[0, :4, 2, 2] = (1, 2, 0, 1)
    made.build_unchecked(tmp_path / "broken.pack")
    kept, broken = dump(sanitized, [tmp_path / "kept.pack", tmp_path / "broken.pack"])
    assert kept == described_pack(tmp_path / "kept.pack")
    assert "'conv.weight': expected the pattern 2:4 that pack.json promises" in broken["refused"]


# -- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["pack.json", "graph.onnx", "deltas", "deltas/0001-shapes.safetensors"])
def test_a_link_in_a_pack_is_refused_in_pythons_words(
    sanitized: Path, golden_copy: Path, tmp_path: Path, part: str
) -> None:
    (golden_copy / part).rename(tmp_path / "elsewhere")
    (golden_copy / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtefactError) as refusal, Pack.open(golden_copy).opened() as pack:
        pack.graph_bytes()
    line = f"{golden_copy / part}: expected no link in a pack, got one; use a pack from its source"
    assert str(refusal.value) == line
    assert dump(sanitized, [golden_copy]) == [{"refused": line}]


def test_a_pack_may_be_reached_over_a_link(sanitized: Path, golden: Path, tmp_path: Path) -> None:
    (tmp_path / "current.pack").symlink_to(golden)
    assert dump(sanitized, [tmp_path / "current.pack"]) == dump(sanitized, [golden])


# -- the installed package ------------------------------------------------------------------------------------------


def test_a_program_outside_the_tree_uses_the_installed_package(
    toolchain: Toolchain, golden: Path, tmp_path: Path
) -> None:
    release = toolchain.build("release", "-DPACKNET_TESTS=OFF", "-DPACKNET_BENCHMARKS=ON", "-DPACKNET_WERROR=ON")
    installed = tmp_path / "installed"
    toolchain.run(toolchain.cmake, "--install", release, "--prefix", installed)
    source = shutil.copytree(SOURCE / "examples", tmp_path / "examples")
    toolchain.run(toolchain.cmake, "-S", source, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={installed}")
    toolchain.run(toolchain.cmake, "--build", tmp_path / "out")
    program = tmp_path / "out" / "show_task"

    shown = toolchain.run(program, golden, "birds").splitlines()
    weights = Pack.open(golden).load_task("birds").tensors["conv1.weight"]
    assert shown[0] == f"conv1.weight: {weights.size} weights, {int((weights == 0).sum())} of them 0"
    assert shown[3:] == ["class Rotkehlchen", "class Mönchsgrasmücke"]

    refused = subprocess.run([program, golden, "fish"], capture_output=True, text=True, check=False)
    assert refused.returncode == 4
    assert refused.stderr == f"show_task: {golden}: task: expected one of shapes, birds, flowers, got 'fish'\n"


def test_a_hostile_pack_json_costs_what_it_weighs(toolchain: Toolchain, golden_copy: Path) -> None:
    """As many numbers or objects as there may be, and many more, in 90 MB of address space."""
    release = toolchain.build("release", "-DPACKNET_TESTS=OFF", "-DPACKNET_BENCHMARKS=ON", "-DPACKNET_WERROR=ON")
    text = (golden_copy / "pack.json").read_text().rstrip().removesuffix("}")

    def numbers(count: int) -> str:
        return "[" + "1," * count + "1]"

    def objects(count: int) -> str:
        return "{" + ",".join(f'"{i}":{{}}' for i in range(count)) + "}"

    for odd, refused in (
        (numbers(250_000), False),
        (objects(120_000), False),
        (numbers(4_000_000), True),
        (objects(600_000), True),
    ):
        (golden_copy / "pack.json").write_text(f'{text}, "later": {odd}}}')
        run = subprocess.run(
            [release / "bench" / "packnet-bench-materialise", golden_copy],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (90_000_000, 90_000_000)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == refused, run.stderr
        assert not refused or "expected at most 262144 commas and opening brackets" in run.stderr


def test_it_has_the_python_packages_version() -> None:
    assert f"project(packnet VERSION {packnet_deploy.__version__} " in (SOURCE / "CMakeLists.txt").read_text()


def test_public_headers_need_the_standard_library_alone() -> None:
    for header in (SOURCE / "include" / "packnet").glob("*.h"):
        for line in header.read_text(encoding="utf-8").splitlines():
            if line.startswith("#include"):
                standard = header.name == "packnet.h" or ("/" not in line and "." not in line)  # C's end in .h
                assert line.startswith('#include "packnet/') or standard, (header, line)
