"""One packable parameter as a delta stores it: its mask, in bits, and its values (docs/format.md).

Bits lie least significant first, padding bits are zero. Reading a whole chain of these is decode.py; the slow
implementation that both are tested against is reference.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.pack.manifest import ParamSpec
from packnet_deploy.pack.owners import FREE, OwnerMap
from packnet_deploy.pack.tensorfile import DTYPES

VALUE_DTYPES = {"float32": DTYPES["F32"], "float16": DTYPES["F16"], "bfloat16": DTYPES["BF16"]}


def encode_param(
    param: ParamSpec, owner: OwnerMap, weights: npt.NDArray[Any], task: int, value_dtype: str
) -> tuple[npt.NDArray[np.uint8] | None, npt.NDArray[Any]]:
    """The mask over the weights still free before ``task``, None where it takes them all, and the values it took.

    Raises:
        ValueError: shapes or values that cannot be stored as they are.
    """
    if owner.shape != param.shape or weights.shape != param.shape:
        raise ValueError(
            f"parameter {param.name!r}: expected shape {param.shape}, "
            f"got owner map {owner.shape} and weights {weights.shape}"
        )
    mine = owner == task
    values = np.asarray(weights[mine], np.float32)
    stored = values.astype(VALUE_DTYPES[value_dtype])
    if not np.array_equal(stored.astype(np.float32), values, equal_nan=True):
        raise ValueError(
            f"parameter {param.name!r}: its values are not {value_dtype} numbers; round them before freezing"
        )
    still_free = mine[(owner == FREE) | (owner >= task)]
    return (None if still_free.all() else pack_bits(still_free)), stored


def pack_bits(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Bool ``[n]`` to uint8 ``[ceil(n / 8)]``; bit i of the mask is bit ``i % 8`` of byte ``i // 8``."""
    return np.packbits(mask, bitorder="little")


def unpack_bits(packed: npt.NDArray[np.uint8], start: int, count: int) -> npt.NDArray[np.bool_]:
    """The ``count`` bits from bit ``start`` of ``packed``, as bool ``[count]``."""
    return np.unpackbits(packed, bitorder="little", count=start + count)[start:].view(np.bool_)


def count_bits(packed: npt.NDArray[np.uint8]) -> int:
    """How many bits are 1."""
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def padding_is_zero(packed: npt.NDArray[np.uint8], count: int) -> bool:
    """Whether the bits behind the ``count``-th are all zero; ``packed`` holds ``ceil(count / 8)`` bytes."""
    return count % 8 == 0 or int(packed[-1]) >> (count % 8) == 0
