"""The way to the packs that exports are tested with, and the masking kernels compiled for the host."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from host_kernels import HostKernels

sys.path.append(str(Path(__file__).parents[1] / "export"))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    """The masking kernels as functions of the host."""
    return HostKernels(tmp_path_factory.mktemp("kernels"))
