"""Images and logits of other libraries than numpy, read and written where they lie: on the host or on the GPU.

On the host anything with DLPack will do (PyTorch, JAX, ...); on the GPU what has ``__cuda_array_interface__`` (PyTorch,
CuPy, Numba, JAX). Nothing is imported for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import UsageError

Array = npt.NDArray[Any]  # of whatever type: whoever asks for one checks it
ALIGNMENT = 256  # bytes; what TensorRT asks of the addresses of inputs and outputs
_ON_HOST = (1, 3)  # DLPack's kinds of device: the CPU, and page-locked memory


@dataclass(frozen=True)
class GpuTensor:
    """Contiguous float32 on the GPU."""

    address: int
    shape: tuple[int, ...]


def located(name: str, given: Any) -> Array | GpuTensor:
    """Where a tensor lies; nothing is copied.

    Args:
        name: what it is; begins the message.

    Raises:
        UsageError: it is nothing of which an address can be had, or one on the GPU that is not contiguous float32 at a
            multiple of 256 bytes.
    """
    if isinstance(given, np.ndarray):
        return given
    if (interface := getattr(given, "__cuda_array_interface__", None)) is not None:
        return _on_gpu(name, interface)
    try:
        kind, _ = given.__dlpack_device__()
        if kind in _ON_HOST:
            return np.from_dlpack(given)
    except (AttributeError, BufferError, RuntimeError, TypeError) as error:
        raise UsageError(
            f"{name}: expected an array of numpy, or one with DLPack or __cuda_array_interface__, got "
            f"{type(given).__name__} ({error})"
        ) from error
    raise UsageError(
        f"{name}: expected __cuda_array_interface__ of an array on the GPU, {type(given).__name__} has none"
    )


def checked_images(given: Any, shape: tuple[int, ...], least: int, most: int) -> Array | GpuTensor:
    """Images of a request, where they lie.

    Args:
        shape: of one image.
        least, most: how many of them an engine takes at once, which those on the GPU must be.

    Raises:
        UsageError: they are of another shape, type or number.
    """
    images = located("images", given)
    dtype = "float32" if isinstance(images, GpuTensor) else str(images.dtype)
    if dtype != "float32" or images.shape[1:] != shape or images.shape[0] == 0:
        raise UsageError(
            f"images: expected float32 [n, {', '.join(map(str, shape))}], got {dtype} "
            f"{list(images.shape)}; resize and normalise them as the pack's input says"
        )
    if isinstance(images, GpuTensor) and not least <= images.shape[0] <= most:
        raise UsageError(
            f"images: expected {least} to {most} on the GPU, as the plan takes at once, got {images.shape[0]}"
        )
    return images


def checked_out(given: Any, images: Array | GpuTensor, classes: int) -> GpuTensor:
    """Where logits of ``images`` are to go, on the GPU.

    Args:
        classes: of the engine.

    Raises:
        UsageError: it is of another shape, or not there, or images are not.
    """
    out, wanted = located("out", given), [images.shape[0], classes]
    if not (isinstance(out, GpuTensor) and isinstance(images, GpuTensor)) or list(out.shape) != wanted:
        where = "the GPU" if isinstance(out, GpuTensor) else "the host"
        raise UsageError(
            f"out: expected float32 {wanted} on the GPU, for images there, got {list(out.shape)} on {where}"
        )
    return out


def _on_gpu(name: str, interface: dict[str, Any]) -> GpuTensor:
    address, _ = interface["data"]
    shape, kind, strides = tuple(interface["shape"]), interface["typestr"], interface.get("strides")
    if kind != "<f4" or strides not in (None, _contiguous(shape)):
        raise UsageError(f"{name}: expected contiguous float32 on the GPU, got {kind} with strides {strides}; copy it")
    if address % ALIGNMENT:
        raise UsageError(
            f"{name}: expected it at a multiple of {ALIGNMENT} bytes, as TensorRT does, got {address:#x}, a part of "
            "something larger; copy it"
        )
    return GpuTensor(int(address), shape)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in bytes of float32 in C order."""
    strides, step = [], 4
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
