"""The machine in words: what /proc/cpuinfo says, what is installed, and what cannot be had."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess

import onnxruntime
import pytest

from packnet_deploy.bench import machine
from packnet_deploy.bench.machine import cpu_from_cpuinfo, describe_machine
from packnet_deploy.trt.sidecar import Gpu

GPU = Gpu("Stand-in", "8.6", "13.0", 1 << 33)

THREAD = "processor\t: {0}\nmodel name\t: Fast CPU\nphysical id\t: {1}\ncore id\t\t: {2}\nflags\t\t: a b\n\n"


def test_hyper_threads_are_not_cores() -> None:
    threads = [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1), (4, 0, 0), (5, 0, 1), (6, 1, 0), (7, 1, 1)]
    assert cpu_from_cpuinfo("".join(THREAD.format(*thread) for thread in threads)) == ("Fast CPU", 4)


def test_a_cpu_without_names_and_ids() -> None:
    arm = "processor\t: 0\nBogoMIPS\t: 50\n\nprocessor\t: 1\nBogoMIPS\t: 50\n\n"
    assert cpu_from_cpuinfo(arm) == (platform.machine(), 2)


def test_this_machine() -> None:
    here = describe_machine()
    assert here.cpu
    assert here.cores >= 1
    assert here.logical_cpus >= 1
    assert here.versions["python"] == platform.python_version()
    assert here.versions["numpy"] == importlib.metadata.version("numpy")
    assert here.versions["onnxruntime"] == onnxruntime.__version__  # from onnxruntime-gpu as well
    assert here.versions["packnet-deploy"]
    assert "torch" not in here.versions
    assert here.cpu in str(here)


def test_packages_that_are_not_installed_are_left_out() -> None:
    assert describe_machine(["numpy", "no-such-package-anywhere"]).versions.keys() == {"python", "numpy"}


@pytest.mark.parametrize(("provider", "gpu"), [("CUDA", None), ("CPU", GPU), ("CPU", None)])
def test_gpus_are_those_that_cuda_could_use(monkeypatch: pytest.MonkeyPatch, provider: str, gpu: object | None) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [f"{provider}ExecutionProvider"])
    monkeypatch.setattr(machine, "find_gpu", lambda index=0: gpu)
    monkeypatch.setattr(machine, "_answer", lambda command: "NVIDIA H200, 580.10\nNVIDIA L4, 580.10")
    expected = ("NVIDIA H200, driver 580.10", "NVIDIA L4, driver 580.10")
    assert machine._gpus() == (() if (provider, gpu) == ("CPU", None) else expected)


def test_a_command_that_fails_or_hangs_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._answer(["no-such-command-anywhere"]) == ""
    assert machine._answer(["false"]) == ""

    def hang(*args: object, timeout: float, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert machine._answer(["nvidia-smi"]) == ""
