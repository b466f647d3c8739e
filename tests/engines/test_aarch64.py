"""The C++ runtime built for 64-bit ARM and run here by qemu: the same tests, and of the golden pack the same bits.

Takes a compiler and an emulator that most machines have not, so it is a run of its own: `make test-aarch64`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from answers import answers_of
from corpus import corpus_cases, expected
from formats import FORMATS, described_pack, fingerprint
from native import Toolchain

pytestmark = pytest.mark.slow

QEMU = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")


@pytest.fixture(scope="module")
def arm(toolchain: Toolchain) -> Path:
    """The build folder for ARM."""
    if "PACKNET_AARCH64" not in os.environ:
        pytest.skip("a run of its own: make test-aarch64")
    for tool in ("aarch64-linux-gnu-g++", QEMU[0]):
        assert shutil.which(tool), f"no {tool}; run: apt-get install g++-aarch64-linux-gnu qemu-user"
    return toolchain.build("aarch64")


def test_its_own_tests(toolchain: Toolchain, arm: Path) -> None:
    ctest = str(Path(toolchain.cmake).with_name("ctest"))
    report = toolchain.run(ctest, "--preset", "aarch64", "--no-tests=error")
    assert "100% tests passed" in report


def test_arms_own_instructions_were_used(toolchain: Toolchain, arm: Path) -> None:
    said = toolchain.run(*QEMU, arm / "tests" / "test_parts", "sha256_by_the_processor")
    assert "skipped" not in said


def test_the_golden_pack_has_the_same_bits(arm: Path, golden: Path) -> None:
    assert answers_of(arm / "tests" / "packnet-dump", [golden], QEMU) == [described_pack(golden)]


def test_the_corpus_is_judged_as_it_says(arm: Path, tmp_path: Path) -> None:
    known = expected()
    (item,) = (item for item in FORMATS if item.name == "delta")
    cases = list(corpus_cases(item))
    paths = [item.place(case.original, case.content, tmp_path / str(i)) for i, case in enumerate(cases)]
    for case, answer in zip(cases, answers_of(arm / "tests" / "packnet-dump", paths, QEMU), strict=True):
        seen = None if "refused" in answer else fingerprint(answer)
        assert seen == known[item.name, case.name].seen, case.name
