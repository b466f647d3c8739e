"""Resident memory of this process, what the machine has left, and what the GPU has: each from the system itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from packnet_deploy.trt.gpu import answer, find_gpu, make_current

PROC = Path("/proc/self")
MEMINFO = Path("/proc/meminfo")


def resident_bytes(proc: Path = PROC) -> int | None:
    """Bytes of this process that are in RAM now, pages shared with other processes counted in full.

    Linux: ``smaps_rollup``, which walks the page tables. ``statm`` is the fall-back: it is cheaper, but on machines
    with many cores it may lag by megabytes. macOS and the BSDs: ``ps``. Elsewhere None.
    """
    try:
        for line in (proc / "smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024  # "Rss:    12345 kB", where kB means KiB
    except OSError:
        pass
    try:
        return int((proc / "statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None if sys.platform in ("win32", "emscripten") else _resident_from_ps()


def _resident_from_ps() -> int | None:
    try:
        answer = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, timeout=5, check=True
        )
        return int(answer.stdout) * 1024
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def spare_bytes() -> int | None:
    """What one program may reasonably take of this machine: half of what is available."""
    available = available_bytes()
    return None if available is None else available // 2


def available_bytes(meminfo: Path = MEMINFO) -> int | None:
    """Bytes a program may take without pushing others out, as Linux estimates them; elsewhere None."""
    try:
        lines = meminfo.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def gpu_bytes_used(index: int = 0) -> int | None:
    """Bytes of a GPU's memory in use, whoever uses them, as CUDA's driver counts; None where there is none.

    Starts CUDA in this process: the first call takes the memory of a CUDA context, later ones take nothing.
    """
    found = _gpu_bytes(index)
    return None if found is None else found[1] - found[0]


def spare_gpu_bytes(index: int = 0) -> int | None:
    """What is free of a GPU's memory; None where there is none."""
    found = _gpu_bytes(index)
    return None if found is None else found[0]


def _gpu_bytes(index: int) -> tuple[int, int] | None:
    """Bytes free, and bytes in all."""
    if find_gpu(index) is None:
        return None
    from cuda.bindings import driver

    make_current(index)
    code, free, total = driver.cuMemGetInfo()
    answer((code,))
    return int(free), int(total)
