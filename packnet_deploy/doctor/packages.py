"""Which packages are installed here, and which of them work: each is tried in a process of its own, all at once."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from packnet_deploy.doctor.probes import PROBES

# The child sees exactly this process's import path, as in bench/plan.py.
START = "import sys; sys.path[:] = sys.argv[1:-1]; from packnet_deploy.doctor.probes import main; main()"
PATIENCE = 120  # seconds; importing PyTorch from a cold disk takes a minute

# Distributions that bring a package's module, where that is not the package's own name.
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "cuda-python": ("cuda-python", "cuda-bindings"),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu13"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
}


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
        process = subprocess.run(
            [sys.executable, "-c", START, *sys.path, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
        answer = json.loads(process.stdout)
    except subprocess.TimeoutExpired:
        return Package(name, version, True, f"it does not import within {PATIENCE} s")
    except ValueError:  # it ended without an answer
        return Package(name, version, True, how_it_ended(process))
    return Package(name, version, True, answer.get("problem", ""), answer.get("found", {}))


def how_it_ended(process: subprocess.CompletedProcess[str]) -> str:
    code = process.returncode
    how = f"ends with {signal.Signals(-code).name}" if code < 0 else f"ends with exit code {code}"
    said = process.stderr.strip().splitlines()[-1:]
    return f"its process {how}{f' ({said[0]})' if said else ''}"


def _version(name: str) -> str:
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return ""
