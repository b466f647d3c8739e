"""What is found out about each package, by using it. Each probe runs in a process of its own; ``installed`` starts it.

A package may be there and yet not work: a library that it lacks, a wheel of another CUDA, a crash at import. So every
probe imports it for real, and goes as far as can be gone without a GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from packnet_deploy.trt.flavour import load_flavour
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.kernel import KERNELS, compile_for

Found = dict[str, Any]
OLDEST_TARGET = "compute_75"  # Turing, the oldest GPU that TensorRT 10.13 runs on


def _imported(module: str) -> Callable[[], Found]:
    def probe() -> Found:
        importlib.import_module(module)
        return {}

    return probe


def _onnxruntime() -> Found:
    import onnxruntime

    from packnet_deploy.runners.onnx import start_runtime

    start_runtime()
    offered = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return {"providers": onnxruntime.get_available_providers(), "cuda": _works(_start_cuda) if offered else ""}


def _start_cuda() -> None:
    from packnet_deploy.runners.onnx import start_runtime

    start_runtime("cuda")


def _torch() -> Found:
    import torch

    return {"cuda": torch.version.cuda or "", "gpu": torch.cuda.is_available()}


def _torchvision() -> Found:
    import torchvision

    torchvision.models.squeezenet1_1()  # its own operators are loaded, or it does not come so far
    return {}


def _tensorrt(name: str) -> Callable[[], Found]:
    def probe() -> Found:
        return {"compute_capabilities": list(load_flavour(name).compute_capabilities)}

    return probe


def _cuda() -> Found:
    gpu = find_gpu()
    return {"gpu": None if gpu is None else asdict(gpu), "no_gpu": "" if gpu else why_no_gpu()}


def why_no_gpu() -> str:
    """What CUDA's driver says where there is no GPU to be found."""
    from cuda.bindings import driver

    try:
        (code,) = driver.cuInit(0)
    except RuntimeError:
        return "no NVIDIA driver (libcuda) is installed"
    if int(code) == 0:
        return "the driver sees no GPU; CUDA_VISIBLE_DEVICES may hide it"
    return f"the driver says {code.name}"


def _nvrtc() -> Found:
    if (gpu := find_gpu()) is not None:  # what was compiled is no use to a driver that does not take it
        from packnet_deploy.trt.device import Device

        device = Device(gpu)
        try:
            device.load_kernels()
        finally:
            device.close()
    return {"kernels": len(KERNELS), "bytes": len(compile_for(OLDEST_TARGET))}


def _works(call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


# By the name that pip knows; the module that has to be there for it to count as installed, and the probe.
PROBES: dict[str, tuple[str, Callable[[], Found]]] = {
    "numpy": ("numpy", _imported("numpy")),
    "onnx": ("onnx", _imported("onnx")),
    "onnxruntime": ("onnxruntime", _onnxruntime),
    "pillow": ("PIL", _imported("PIL.Image")),
    "torch": ("torch", _torch),
    "torchvision": ("torchvision", _torchvision),
    "matplotlib": ("matplotlib", _imported("matplotlib")),
    "cuda-python": ("cuda", _cuda),
    "nvrtc": ("cuda", _nvrtc),
    "tensorrt": ("tensorrt", _tensorrt("tensorrt")),
    "tensorrt-rtx": ("tensorrt_rtx", _tensorrt("tensorrt-rtx")),
}


def probe(name: str) -> Found:
    """What the probe of ``PROBES`` finds here; raises whatever it meets."""
    return PROBES[name][1]()
