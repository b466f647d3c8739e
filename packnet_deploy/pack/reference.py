"""The delta encoding of one parameter, one weight at a time: the oracle of the tests, too slow for anything else.

Read this beside docs/format.md; encode.py and decode.py are the same thing, fast.
"""

from __future__ import annotations

from collections.abc import Sequence


def encode(owner: Sequence[int], weights: Sequence[float], task: int) -> tuple[bytes | None, list[float]]:
    """The mask (None when the task takes every weight still free) and the values of ``task``."""
    bits: list[int] = []
    values: list[float] = []
    for o, weight in zip(owner, weights, strict=True):
        if 0 < o < task:
            continue  # owned by an earlier task: not free, so not in the mask
        bits.append(1 if o == task else 0)
        if o == task:
            values.append(weight)
    if all(bits):
        return None, values
    packed = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        packed[i // 8] |= bit << (i % 8)
    return bytes(packed), values


def decode(size: int, deltas: Sequence[tuple[bytes | None, Sequence[float]]]) -> tuple[list[int], list[float]]:
    """Owner map and weights after the ``deltas`` of tasks 1, 2, …; free weights are 0.0."""
    owner = [0] * size
    weights = [0.0] * size
    for task, (packed, values) in enumerate(deltas, start=1):
        remaining = iter(values)
        bit = 0
        for i in range(size):
            if owner[i] != 0:
                continue
            if packed is None or packed[bit // 8] >> (bit % 8) & 1:
                owner[i] = task
                weights[i] = next(remaining)
            bit += 1
    return owner, weights
