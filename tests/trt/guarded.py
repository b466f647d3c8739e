"""Arrays as kernels get them: of every precision, aligned as by the GPU's allocator, guard bytes behind them."""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np

TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
GUARD = 0x5A


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """``count`` elements from an address as the GPU's allocator gives it, with guard bytes behind them."""
    memory = np.full(count * dtype.itemsize + 512, GUARD, np.uint8)
    start = -memory.ctypes.data % 256
    return memory[start : start + count * dtype.itemsize].view(dtype)


def behind(array: np.ndarray, count: int = 64) -> np.ndarray:
    """The bytes behind an array that ``aligned`` gave."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(array.ctypes.data + array.nbytes))
