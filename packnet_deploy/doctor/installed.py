"""What is installed here: packages, each tried in a process of its own, and programs, as they tell of themselves."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packnet_deploy.doctor.probes import PROBES, probe
from packnet_deploy.fresh import NoAnswer, Raised, in_fresh_process

PATIENCE = 120  # seconds; importing PyTorch from a cold disk takes a minute

# Distributions that bring a package's module, where that is not the package's own name.
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "cuda-python": ("cuda-python", "cuda-bindings"),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu13"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
}

# What to ask each for its version; of alternatives the first that is there counts.
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "C++ compiler": (("c++", "--version"), ("g++", "--version"), ("clang++", "--version")),
    "cmake": (("cmake", "--version"),),
    "CUDA compiler": (("nvcc", "--version"),),
    "NVIDIA driver": (("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),),
}
LONGEST = 80  # characters of an answer


@dataclass(frozen=True)
class Package:
    """A package as it is here.

    Attributes:
        version: "" where pip does not know it, though it may be there all the same.
        installed: its module is there.
        problem: why it does not work, one line; "" where it does, or where it is not installed.
        found: what its probe found (``probes``).
    """

    name: str
    version: str = ""
    installed: bool = False
    problem: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return self.installed and not self.problem


def find_packages() -> dict[str, Package]:
    """Every package of ``PROBES``, by name. Takes as long as importing the slowest of them."""
    with ThreadPoolExecutor(len(PROBES)) as pool:
        return dict(zip(PROBES, pool.map(find_package, PROBES), strict=True))


def find_package(name: str) -> Package:
    """One of ``PROBES``."""
    version = _version(name)
    if importlib.util.find_spec(PROBES[name][0]) is None:
        return Package(name)
    try:
        return Package(name, version, True, found=in_fresh_process(probe, name, PATIENCE))
    except (Raised, NoAnswer) as error:
        return Package(name, version, True, str(error))


def _version(name: str) -> str:
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return ""


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
