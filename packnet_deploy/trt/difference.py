"""A bank ordered by owner, and what a switch from one task to another reads and writes of it.

Tasks nest, so between tasks i and j lie the weights whose owner does: going up their values are written, going down
zeros. Task 0 owns nothing: from a buffer of zeros, any task is a way up. Pure arrays and counts; the kernels that do it
on a GPU are engines/src/switch.cu, and docs/engines.md has the layout for whoever reads it in another language.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import UsageError
from packnet_deploy.pack.encode import count_bits, pack_bits

TILE = 8192  # weights that one block of the kernels works on
WORDS = TILE // 32  # of its mask
MOST_WEIGHTS = (1 << 32) - 1  # counts are 32 bits wide
_LINE = 16  # bytes: the kernels read values by whole lines

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class OrderedBank:
    """All owned weights of a flat bank. Row k - 1 of ``masks`` and ``before`` is of task k's own.

    Attributes:
        values: typed, by owner and then by position; zeros at the end fill the last 16 bytes.
        masks: uint32 ``[tasks, tiles * WORDS]``: bit b of word w is set where weight 32 * w + b is the task's own.
        before: uint32 ``[tasks, tiles + 1]``: how many of ``values`` come before those of each tile.
    """

    values: Array
    masks: Words
    before: Words

    @property
    def tasks(self) -> int:
        return int(self.masks.shape[0])

    @property
    def tiles(self) -> int:
        return int(self.before.shape[1]) - 1

    def owned(self, task: int) -> int:
        """How many weights are the task's own."""
        return int(self.before[task - 1, -1]) - int(self.before[task - 1, 0])


@dataclass(frozen=True)
class Difference:
    """What lies between two tasks.

    Attributes:
        first, last: owners first + 1 to last lie between them: rows first to last - 1 of an ``OrderedBank``.
        up: their values are to be written; if not, zeros.
    """

    first: int
    last: int
    up: bool


@dataclass(frozen=True)
class Traffic:
    """What a switch costs: weights written, and bytes read for it where they lie."""

    weights: int
    values: int
    positions: int


def difference(source: int, target: int) -> Difference:
    """From task ``source`` to task ``target``, 0 for a buffer of zeros."""
    return Difference(min(source, target), max(source, target), up=target > source)


def order_by_owner(values: Array, ranks: npt.NDArray[np.uint8], tasks: int) -> OrderedBank:
    """Order a flat bank by owner.

    Args:
        ranks: of each value, its owner's index minus one; ``tasks`` and more: no task has it.

    Raises:
        UsageError: more weights than counts can tell.
    """
    if values.size > MOST_WEIGHTS:
        raise UsageError(f"bank: expected at most {MOST_WEIGHTS:,} weights, got {values.size:,}; use --switch none")
    tiles = -(-values.size // TILE)
    masks, before = np.zeros((tasks, tiles * WORDS), np.uint32), np.zeros((tasks, tiles + 1), np.uint32)
    owned, total = [], 0
    for row in range(tasks):
        mask = ranks == row
        packed = pack_bits(mask)
        masks[row].view(np.uint8)[: packed.size] = packed
        by_tile = np.bitwise_count(masks[row].reshape(tiles, WORDS)).sum(axis=1, dtype=np.uint32)
        before[row] = total + np.concatenate([[0], np.cumsum(by_tile)])
        owned.append(values[mask])
        total = int(before[row, -1])
    step = _LINE // values.itemsize
    return OrderedBank(np.concatenate([*owned, np.zeros(-total % step, values.dtype)]), masks, before)


def switch_in_place(out: Array, bank: OrderedBank, source: int, target: int) -> None:
    """Make the flat weights of task ``source`` those of task ``target``: what the kernels do, slowly."""
    between = difference(source, target)
    for row in range(between.first, between.last):
        mine = np.flatnonzero(np.unpackbits(bank.masks[row].view(np.uint8), count=out.size, bitorder="little"))
        out[mine] = bank.values[bank.before[row, 0] :][: mine.size] if between.up else 0


def traffic(bank: OrderedBank, source: int, target: int) -> Traffic:
    """What a switch writes and reads: all counts, and of masks the tiles where an owner has any weight."""
    between = difference(source, target)
    rows = slice(between.first, between.last)
    used = int(np.count_nonzero(np.diff(bank.before[rows].astype(np.int64), axis=1)))
    weights = count_bits(bank.masks[rows].view(np.uint8))
    values = weights * bank.values.itemsize if between.up else 0
    return Traffic(weights, values, used * TILE // 8 + bank.before[rows].nbytes)
