"""Layouts: what an export is made of, and how a single task's tensors are laid down in its model.

``dense``     every tensor an ordinary initialiser, zeros in place.
``sparse``    packed weights as ONNX sparse_initializer (values and positions) where that takes fewer bytes.
``shared``    a folder with one bank for all tasks and a small graph for each; see ``folder``.
``selector``  one graph for all tasks, with the task as an input; see ``selector``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BYTES_PER_POSITION = 8  # int64


@dataclass(frozen=True)
class SparseTensor:
    """The non-zeros of an array of shape ``shape``, in C-order."""

    values: npt.NDArray[Any]  # [non-zeros]
    positions: npt.NDArray[np.int64]  # [non-zeros], ascending indices into the flattened array
    shape: tuple[int, ...]


Laid = npt.NDArray[Any] | SparseTensor


def lay_out_sparse(tensors: Mapping[str, npt.NDArray[Any]], packed: Collection[str]) -> dict[str, Laid]:
    """Store sparse what is smaller so; names and order are kept, dense arrays are not copied.

    Args:
        packed: names of the packable weights; all others stay dense.
    """
    return {name: _smaller(array) if name in packed else array for name, array in tensors.items()}


def _smaller(array: npt.NDArray[Any]) -> Laid:
    bytes_per_non_zero = array.itemsize + BYTES_PER_POSITION
    if bytes_per_non_zero * np.count_nonzero(array) >= array.nbytes:
        return array
    flat = array.reshape(-1)
    positions = np.flatnonzero(flat).astype(np.int64, copy=False)
    return SparseTensor(flat[positions], positions, array.shape)
