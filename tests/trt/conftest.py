"""The way to the packs that exports are tested with, the kernels compiled for the host, and engines on stand-ins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from host_kernels import HostKernels

if TYPE_CHECKING:
    from stand_in_engines import Bench

sys.path.append(str(Path(__file__).parents[1] / "export"))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    """The switching kernels as functions of the host."""
    return HostKernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    from stand_in_engines import Bench  # of the packs above

    return Bench(tmp_path, monkeypatch)
