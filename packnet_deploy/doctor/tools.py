"""Programs that packnet's C++ runtime is built with, and NVIDIA's driver, as they tell of themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# What to ask each for its version; of alternatives the first that is there counts.
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "C++ compiler": (("c++", "--version"), ("g++", "--version"), ("clang++", "--version")),
    "cmake": (("cmake", "--version"),),
    "CUDA compiler": (("nvcc", "--version"),),
    "NVIDIA driver": (("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),),
}
LONGEST = 80  # characters of an answer


def find_tools() -> dict[str, str]:
    """What each of ``COMMANDS`` says of itself; "" where there is none that works."""
    return {name: next(filter(None, map(_answer, commands)), "") for name, commands in COMMANDS.items()}


def _answer(command: tuple[str, ...]) -> str:
    """The line with the version. pip puts programs beside Python, which need not be on the path."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    program = shutil.which(command[0], path=path)
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    with_digits = [line.strip() for line in done.stdout.splitlines() if re.search(r"\d", line)]
    wanted = [line for line in with_digits if "release" in line] or with_digits  # nvcc begins with its copyright
    return wanted[0][:LONGEST] if wanted else ""
