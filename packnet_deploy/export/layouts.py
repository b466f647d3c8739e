"""Layouts: how a task's tensors are laid down in the model, decided per tensor.

``dense``   every tensor an ordinary initialiser, zeros in place.
``sparse``  packed weights as ONNX sparse_initializer (values and positions) where that takes fewer bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import UsageError

LAYOUTS = ("dense", "sparse")

BYTES_PER_WEIGHT = 4  # float32
BYTES_PER_NON_ZERO = 12  # float32 value and int64 position


@dataclass(frozen=True)
class SparseTensor:
    """The non-zeros of an array of shape ``shape``, in C-order."""

    values: npt.NDArray[np.float32]  # [non-zeros]
    positions: npt.NDArray[np.int64]  # [non-zeros], ascending indices into the flattened array
    shape: tuple[int, ...]


Laid = npt.NDArray[np.float32] | SparseTensor


def lay_out(tensors: Mapping[str, npt.NDArray[np.float32]], packed: Collection[str], layout: str) -> dict[str, Laid]:
    """Choose the representation of every tensor; names and order are kept, dense arrays are not copied.

    Args:
        packed: names of the packable weights; all others stay dense.
        layout: one of ``LAYOUTS``.

    Raises:
        UsageError: an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "dense":
        return dict(tensors)
    return {name: _smaller(array) if name in packed else array for name, array in tensors.items()}


def _smaller(array: npt.NDArray[np.float32]) -> Laid:
    if BYTES_PER_NON_ZERO * np.count_nonzero(array) >= BYTES_PER_WEIGHT * array.size:
        return array
    flat = array.reshape(-1)
    positions = np.flatnonzero(flat).astype(np.int64, copy=False)
    return SparseTensor(flat[positions], positions, array.shape)
