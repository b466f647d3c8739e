"""Resident memory, against arrays of known size and files as Linux writes them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from packnet_deploy.bench.memory import resident_bytes

SIZE = 64 << 20  # bytes


@pytest.mark.skipif(sys.platform == "win32", reason="resident memory is not measured on Windows")
def test_touching_memory_makes_it_resident() -> None:
    empty = np.empty(SIZE, np.uint8)  # mapped, but no page of it is in RAM yet
    before = resident_bytes()
    empty[:] = 1
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert 0.9 * SIZE < after - before < 1.2 * SIZE
    del empty
    freed = resident_bytes()
    assert freed is not None
    assert after - freed > 0.9 * SIZE


def test_linux_files_are_read_in_their_units(tmp_path: Path) -> None:
    (tmp_path / "statm").write_text("900 250 3 4 0 5 0\n")
    assert resident_bytes(tmp_path) == 250 * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "smaps_rollup").write_text("5-7 ---p 0 00:00 0   [rollup]\nRss:      1234 kB\nPss:    99 kB\n")
    assert resident_bytes(tmp_path) == 1234 * 1024  # exact, so it goes before statm


@pytest.mark.skipif(sys.platform == "win32", reason="no ps on Windows")
def test_without_proc_it_asks_ps(tmp_path: Path) -> None:
    here, asked = resident_bytes(), resident_bytes(tmp_path)
    if asked is None:
        pytest.skip("no ps on this machine")
    assert here is not None
    assert 0.5 * here < asked < 2 * here
