"""The NVIDIA GPU of this machine, as its CUDA driver describes it."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

from packnet_deploy.errors import EnvironmentFault, missing_package
from packnet_deploy.trt.sidecar import Gpu

FIRST = 0  # the GPU that CUDA_VISIBLE_DEVICES puts first; there is no other choice here


def expect_gpu(purpose: str) -> Gpu:
    """The GPU.

    Args:
        purpose: what needs it; begins the message.

    Raises:
        EnvironmentFault: there is none, or no driver or Python package to reach it with.
    """
    if importlib.util.find_spec("cuda") is None:
        raise missing_package("cuda-python", "rtx", purpose)
    found = find_gpu()
    if found is None:
        raise EnvironmentFault(
            f"{purpose} needs an NVIDIA GPU and its driver, there is none here; see what this machine can do: "
            "packnet doctor"
        )
    return found


@cache
def find_gpu() -> Gpu | None:
    """The first GPU, or None where there is no GPU, no driver, or no cuda-python."""
    try:
        from cuda.bindings import driver
    except ImportError:
        return None
    try:
        answer(driver.cuInit(0))
        if answer(driver.cuDeviceGetCount()) == 0:
            return None
        device = answer(driver.cuDeviceGet(FIRST))
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


def answer(result: tuple[Any, ...]) -> Any:
    """What a call of cuda-python gives beside its error code.

    Raises:
        EnvironmentFault: the code is not success.
    """
    code, *values = result
    if int(code) != 0:
        raise EnvironmentFault(f"the CUDA driver says {code.name}; check it with nvidia-smi")
    return values[0] if values else None
