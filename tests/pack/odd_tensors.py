"""Tensors of every dtype and of odd shapes, and metadata beyond ASCII, for files that must be the same every time."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

TENSORS: dict[str, npt.NDArray[Any]] = {
    "b/odd": np.arange(5, dtype=np.uint8),
    "b/half": np.array([[1.5, -2]], np.float16),
    "a/é": np.array([0.5, 3], ml_dtypes.bfloat16),
    "z": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/none": np.empty(0, np.float32),
    "scalar": np.array(2.5, np.float32),
}
METADATA = {"task": "birds", "classes": '["Möwe","crow"]', "a": "", "zz": "last"}
