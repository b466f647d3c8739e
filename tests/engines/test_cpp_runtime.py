"""The C++ runtime: its own tests, the installed package, and its reader held against Python's.

Python's reader is the oracle: the same weights to the bit, and the same verdict on damaged packs.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native import SOURCE, Toolchain
from pack_worlds import World, make_world
from vandalism import mutated

import packnet_deploy
from packnet_deploy.errors import PackNetError
from packnet_deploy.pack import Pack, ParamSpec, file_sha256, probe_batch

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float16", "bfloat16")
# Several chunks of the C++ decoder (2^17 weights), and a size that ends inside a word and inside a byte.
LARGE = (ParamSpec("large.weight", (3, 87_391)), ParamSpec("small.weight", (5, 13)), ParamSpec("one.weight", (1,)))

# What the C++ reader refuses and Python's does not: JSON beyond RFC 8259 and beyond what any writer makes.
STRICTER = ("twice", "levels of nesting", "its header does not begin with {")


def dump(folder: Path, packs: Sequence[Path]) -> list[dict[str, Any]]:
    """What the C++ reader makes of packs."""
    command = [folder / "tests" / "packnet-dump", *packs]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    answers: list[dict[str, Any]] = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(packs)
    return answers


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def described(path: Path) -> dict[str, Any]:
    """The same as ``dump``, by Python's reader."""
    pack = Pack.open(path)
    pack.graph_bytes()
    bank = pack.bank()
    names = [param.name for param in pack.packable]
    tasks = []
    for entry in pack.tasks:
        loaded = pack.load_task(entry.name)
        header = pack.header(entry.name)
        others = {name: tensor for name, tensor in loaded.tensors.items() if name not in names}
        weights = {name: digest(loaded.tensors[name]) for name in names}
        assert weights == {name: digest(value) for name, value in bank.materialise(entry.index).items()}
        tasks.append(
            {
                "task": entry.name,
                "index": entry.index,
                "classes": list(loaded.classes),
                "decoded": weights,
                "masked": weights,
                "tensors": {name: digest(tensor) for name, tensor in others.items()},
                "shapes": {name: list(tensor.shape) for name, tensor in others.items()},
                "probe_logits": digest(loaded.probe_logits),
                "report": header.report,
                "input_sha256": loaded.input.sha256,
                "frozen_sha256": bank.sha256(entry.index - 1),
                "stated_frozen_sha256": header.frozen_sha256,
            }
        )
    return {
        "input_sha256": pack.input.sha256,
        "probe_sha256": digest(probe_batch(pack.input)),
        "parameters": [[p.name, list(p.shape), p.pattern] for p in pack.packable],
        "owners": {name: digest(owner) for name, owner in bank.owners.items()},
        "tasks": tasks,
    }


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
    toolchain.build("tsan", targets=("test_residents", "test_session", "test_engine"))
    ctest = str(Path(toolchain.cmake).with_name("ctest"))
    report = toolchain.run(ctest, "--preset", "tsan", "--no-tests=error")
    assert "100% tests passed, 0 tests failed out of 3" in report


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
        assert got == described(path)


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
    assert kept == described(tmp_path / "kept.pack")
    assert "'conv.weight': expected the pattern 2:4 that pack.json promises" in broken["refused"]


# -- the same verdict -----------------------------------------------------------------------------------------------


def python_refuses(path: Path) -> str | None:
    """The error of Python's reader; None if it accepts the pack."""
    try:
        described(path)
    except PackNetError as error:
        return str(error)
    return None


def vandalised(golden: Path, path: Path, rng: random.Random) -> None:
    """The golden pack with pack.json, or the last of its first 1, 2 or 3 deltas, vandalised; hashes put right."""
    shutil.copytree(golden, path)
    document = json.loads((golden / "pack.json").read_bytes())
    position = rng.randrange(4)
    if position == 3:
        (path / "pack.json").write_bytes(mutated((golden / "pack.json").read_bytes(), rng))
        return
    document["tasks"] = document["tasks"][: position + 1]
    entry = document["tasks"][position]
    delta = path / entry["file"]
    data = delta.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    kind = rng.random()
    if kind < 0.2:
        delta.write_bytes(mutated(data, rng))
    elif kind < 0.7:  # inside a header whose length is right
        head = mutated(data[8:start], rng)
        delta.write_bytes(len(head).to_bytes(8, "little") + head + data[start:])
    else:  # one byte of the tensors: values (accepted) or masks (refused)
        place = rng.randrange(start, len(data))
        delta.write_bytes(data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :])
    entry |= {"sha256": file_sha256(delta), "bytes": delta.stat().st_size}
    (path / "pack.json").write_text(json.dumps(document))


def test_both_readers_agree_on_vandalised_packs(sanitized: Path, golden: Path, tmp_path: Path) -> None:
    rng = random.Random(5)
    packs = [tmp_path / f"{number}.pack" for number in range(600)]
    for path in packs:
        vandalised(golden, path, rng)
    accepted = 0
    for path, got in zip(packs, dump(sanitized, packs), strict=True):
        refusal = python_refuses(path)
        cpp_refusal = got.get("refused")
        if refusal is None and cpp_refusal is None:
            accepted += 1
            assert got == described(path)
        elif refusal is None:
            assert any(words in cpp_refusal for words in STRICTER), cpp_refusal
        else:
            assert cpp_refusal is not None, refusal
    assert 60 < accepted < 540  # else the vandal is of no use


# -- the installed package ------------------------------------------------------------------------------------------


def test_a_program_outside_the_tree_uses_the_installed_package(
    toolchain: Toolchain, golden: Path, tmp_path: Path
) -> None:
    release = toolchain.build("release", "-DPACKNET_TESTS=OFF", "-DPACKNET_BENCHMARKS=OFF", "-DPACKNET_WERROR=ON")
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


def test_it_has_the_python_packages_version() -> None:
    assert f"project(packnet VERSION {packnet_deploy.__version__} " in (SOURCE / "CMakeLists.txt").read_text()


def test_public_headers_need_the_standard_library_alone() -> None:
    for header in (SOURCE / "include" / "packnet").glob("*.h"):
        for line in header.read_text(encoding="utf-8").splitlines():
            if line.startswith("#include"):
                standard = header.name == "packnet.h" or ("/" not in line and "." not in line)  # C's end in .h
                assert line.startswith('#include "packnet/') or standard, (header, line)
