"""Fixtures for every test: the golden pack that all readers are held to."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

# A job in the background is started with Ctrl-C ignored, and so would be every child that tests interrupt.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"
sys.path.append(str(GOLDEN / "conformance"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The committed pack of three tasks. Never written to: take ``golden_copy`` for that."""
    return GOLDEN / "three_tasks.pack"


@pytest.fixture(scope="session")
def golden_expected() -> dict[str, Any]:
    """What readers must make of the golden pack (tests/golden/expected.json)."""
    expected: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
    return expected


@pytest.fixture
def golden_copy(golden: Path, tmp_path: Path) -> Path:
    """A copy of the golden pack that the test may change."""
    return Path(shutil.copytree(golden, tmp_path / "golden.pack"))
