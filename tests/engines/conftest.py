"""Fixtures of the C++ runtime's tests, and the way to the packs that the Python reader is tested with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from native import CannotBuild, Toolchain, find_toolchain

for folder in ("pack", "export"):
    sys.path.append(str(Path(__file__).parents[1] / folder))


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    try:
        return find_toolchain()
    except CannotBuild as reason:
        pytest.skip(f"the C++ runtime cannot be built here: {reason}")


@pytest.fixture(scope="session")
def sanitized(toolchain: Toolchain) -> Path:
    """The build folder of the library and its tests under the address and undefined-behaviour sanitizers."""
    return toolchain.build("asan")
