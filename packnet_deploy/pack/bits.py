"""Bit masks as a delta stores them: least significant bit first, padding bits zero (docs/format.md).

The slow implementation that these are tested against is reference.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
