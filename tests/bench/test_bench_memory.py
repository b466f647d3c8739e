"""Resident memory, against arrays of known size and files as Linux writes them; a GPU's, at a stand-in for CUDA."""

from __future__ import annotations

import importlib.util
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from host_kernels import build

from packnet_deploy.bench import memory
from packnet_deploy.bench.memory import gpu_bytes_used, resident_bytes, spare_gpu_bytes

SIZE = 64 << 20  # bytes


@pytest.mark.skipif(sys.platform == "win32", reason="resident memory is not measured on Windows")
def test_touching_memory_makes_it_resident() -> None:
    with mmap.mmap(-1, SIZE) as block:  # no page of it is in RAM yet; what numpy frees, malloc may keep
        before = resident_bytes()
        for _ in range(SIZE >> 20):  # in pieces: what is written takes room as well
            block.write(bytes(1 << 20))
        after = resident_bytes()
    freed = resident_bytes()
    assert before is not None
    assert after is not None
    assert freed is not None
    assert 0.9 * SIZE < after - before < 1.2 * SIZE
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


GPU_SCRIPT = """
from packnet_deploy.bench.memory import gpu_bytes_used, spare_gpu_bytes
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.sidecar import Gpu
total, before = 8 << 30, gpu_bytes_used()
device = Device(Gpu("Stand-in GPU", "8.6", "13.2", total))
device.allocate(5000)
assert gpu_bytes_used() - before == 5000, gpu_bytes_used()
assert spare_gpu_bytes() == total - gpu_bytes_used()
device.close()
assert gpu_bytes_used() == before
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or importlib.util.find_spec("cuda") is None,
    reason="needs Linux, to put a library in the place of another, and cuda-python",
)
def test_gpu_memory_at_a_stand_in_for_the_driver(tmp_path: Path) -> None:
    """Not at a GPU: at tests/trt/libcuda_on_host.cpp."""
    tests = Path(__file__).parents[1]
    build(tmp_path, tests / "trt" / "libcuda_on_host.cpp", tmp_path / "libcuda.so.1")
    paths = {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(tests.parent)}
    command = [sys.executable, "-c", GPU_SCRIPT]
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_gpu_its_memory_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "find_gpu", lambda index=0: None)
    assert gpu_bytes_used() is None
    assert spare_gpu_bytes() is None
