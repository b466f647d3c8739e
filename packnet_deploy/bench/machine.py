"""The machine and the versions a figure was measured with; no figure is printed without them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packnet_deploy.trt.gpu import find_gpu

CPUINFO = Path("/proc/cpuinfo")
PACKAGES = ("packnet-deploy", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Machine:
    """``cores`` are physical, ``logical_cpus`` those this process may use; ``gpus`` those that CUDA could use."""

    cpu: str
    cores: int
    logical_cpus: int
    gpus: tuple[str, ...]
    system: str
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        gpus = ", ".join(self.gpus) or "no GPU in use"
        return f"{self.cpu}, {self.cores} cores ({self.logical_cpus} threads usable); {gpus}; {self.system}; {versions}"


def describe_machine(packages: Sequence[str] = PACKAGES) -> Machine:
    """This machine, with the versions of Python and of those ``packages`` that are installed."""
    cpu, cores = _cpu()
    versions = {"python": platform.python_version()}
    versions |= {name: version for name in packages if (version := _version(name))}
    system = f"{platform.system()} {platform.machine()}"
    return Machine(cpu, cores, _logical_cpus(), _gpus(), system, versions)


def _cpu() -> tuple[str, int]:
    """Model name and number of physical cores; the logical ones where the system tells no more."""
    try:
        return cpu_from_cpuinfo(CPUINFO.read_text(errors="replace"))
    except OSError:
        name = _answer(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
        cores = _answer(["sysctl", "-n", "hw.physicalcpu"])
        return name or "unknown CPU", int(cores) if cores.isdecimal() else os.cpu_count() or 1


def cpu_from_cpuinfo(text: str) -> tuple[str, int]:
    """``/proc/cpuinfo`` to the model name and the number of physical cores (of logical ones, if it has no ids)."""
    blocks = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in text.split("\n\n")
    ]
    processors = [block for block in blocks if "processor" in block]
    names = [block["model name"] for block in blocks if "model name" in block]
    cores = {(block.get("physical id"), block["core id"]) for block in processors if "core id" in block}
    return names[0] if names else platform.machine(), len(cores) or len(processors) or os.cpu_count() or 1


def _logical_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: what taskset and containers leave to this process
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> tuple[str, ...]:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() and find_gpu() is None:
        return ()
    answer = _answer(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return tuple(line.strip().replace(", ", ", driver ") for line in answer.splitlines() if line.strip())


def _version(package: str) -> str:
    """The installed version, or nothing. ONNX Runtime comes as two distributions of the same module."""
    for distribution in (package, f"{package}-gpu"):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    if package == "packnet-deploy":  # a source tree on the path, not installed
        from packnet_deploy.version import __version__

        return __version__
    return ""


def _answer(command: Sequence[str]) -> str:
    """What a command prints; nothing if it is not there, fails, or takes more than three seconds."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=3, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
