"""These tests need an NVIDIA GPU; without one they are skipped, and say so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from packnet_deploy.trt.gpu import find_gpu

sys.path += [str(Path(__file__).parents[1] / name) for name in ("export", "trt")]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if find_gpu() is None:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU and cuda-python; there is none here"))
