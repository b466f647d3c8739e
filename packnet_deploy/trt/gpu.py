"""The NVIDIA GPU of this machine, as its CUDA driver describes it."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

from packnet_deploy.errors import EnvironmentFault, UsageError, missing_package
from packnet_deploy.runners.devices import device_of
from packnet_deploy.trt.sidecar import Gpu


def gpu_index(device: str) -> int:
    """The number of the GPU that ``device`` names: 0 for ``cuda``, N for ``cuda:N``.

    Raises:
        UsageError: it names none.
    """
    kind, index = device_of(device)
    if kind != "cuda":
        raise UsageError(f"device: TensorRT runs on a GPU: expected cuda or cuda:N, got {device!r}")
    return index


def expect_gpu(purpose: str, index: int = 0) -> Gpu:
    """A GPU.

    Args:
        purpose: what needs it; begins the message.
        index: its number, from 0, among those that CUDA_VISIBLE_DEVICES leaves.

    Raises:
        EnvironmentFault: there is none, or no driver or Python package to reach it with.
    """
    if importlib.util.find_spec("cuda") is None:
        raise missing_package("cuda-python", "rtx", purpose)
    found = find_gpu(index)
    if found is None and find_gpu() is not None:
        raise EnvironmentFault(f"{purpose}: cuda:{index}: no such GPU here; nvidia-smi lists those that are, from 0 on")
    if found is None:
        raise EnvironmentFault(
            f"{purpose} needs an NVIDIA GPU and its driver, there is none here; see what this machine can do: "
            "packnet doctor"
        )
    return found


@cache
def find_gpu(index: int = 0) -> Gpu | None:
    """The GPU of this number, or None where there is no such GPU, no driver, or no cuda-python."""
    try:
        from cuda.bindings import driver
    except ImportError:
        return None
    try:
        answer(driver.cuInit(0))
        if answer(driver.cuDeviceGetCount()) <= index:
            return None
        device = answer(driver.cuDeviceGet(index))
        name = answer(driver.cuDeviceGetName(128, device)).rstrip(b"\0").decode(errors="replace")
        attribute = driver.CUdevice_attribute
        major, minor = (
            answer(driver.cuDeviceGetAttribute(which, device))
            for which in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        version = answer(driver.cuDriverGetVersion())
        memory = answer(driver.cuDeviceTotalMem(device))
    except (EnvironmentFault, RuntimeError):  # RuntimeError: the package finds no libcuda at all
        return None
    return Gpu(name.strip(), f"{major}.{minor}", f"{version // 1000}.{version % 1000 // 10}", int(memory))


@cache
def primary_context(index: int = 0) -> Any:
    """A GPU's primary context, which TensorRT, ONNX Runtime and PyTorch use too; this process keeps it until it ends.

    Were it given back with the last engine, objects of TensorRT that a traceback still holds would outlive it.
    """
    from cuda.bindings import driver

    answer(driver.cuInit(0))
    return answer(driver.cuDevicePrimaryCtxRetain(answer(driver.cuDeviceGet(index))))


def make_current(index: int) -> None:
    """Make this GPU the one that CUDA's libraries take in this thread."""
    from cuda.bindings import driver

    answer(driver.cuCtxSetCurrent(primary_context(index)))


def answer(result: tuple[Any, ...]) -> Any:
    """What a call of cuda-python gives beside its error code.

    Raises:
        EnvironmentFault: the code is not success.
    """
    code, *values = result
    if int(code) != 0:
        raise EnvironmentFault(f"the CUDA driver says {code.name}; check it with nvidia-smi")
    return values[0] if values else None
