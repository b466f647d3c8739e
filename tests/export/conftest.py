"""Fixtures of the export tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_networks import Network, pack_of, tiny_network

from packnet_deploy.pack import Pack


@pytest.fixture
def tiny() -> Network:
    return tiny_network()


@pytest.fixture
def tiny_pack(tiny: Network, tmp_path: Path) -> Pack:
    """Two tasks; the second runs on about a fifth of the weights, so its large layers are worth storing sparse."""
    return pack_of(tmp_path / "tiny.pack", tiny, {"first": 0.1, "second": 0.1})
