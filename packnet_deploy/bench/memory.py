"""Resident memory of this process and what the machine has left, from the system itself. GPU memory is not covered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
