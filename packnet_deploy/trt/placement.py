"""Where the parts of a bank lie, and the GPU memory that weights take for it, to the byte. Pure: counts in, counts out.

On the GPU is what the engine reads: one model, whatever the number of tasks. The bank lies in page-locked host memory,
from where a switch reads the difference, or on the GPU too if that is asked for. With the bank on the host, positions
and what tasks bring whole still lie on the GPU where either fits a tenth of a model, so that all stays within 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from packnet_deploy.errors import UsageError
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.difference import TILE
from packnet_deploy.trt.layout import layout_of

BANKS = ("device", "host")
SHARE = 10  # a tenth of a model


@dataclass(frozen=True)
class Sizes:
    """Bytes of everything a switchable engine is made of.

    Attributes:
        fixed: of the weights in the plan for good.
        changing: of those that change with the task, by themselves.
        buffer: the same, each at its place in the flat buffer.
        largest: of ``changing``, the gap behind it included.
        values, positions, counts: of the ordered bank (difference.py); counts always lie on the GPU.
        own: of what all tasks bring whole.
    """

    fixed: int
    changing: int
    buffer: int
    largest: int
    values: int
    positions: int
    counts: int
    own: int

    @property
    def model(self) -> int:
        """One task's weights: what a plan of one task holds."""
        return self.fixed + self.changing


@dataclass(frozen=True)
class Placement:
    """Which parts lie on the GPU; the others lie in page-locked host memory.

    Attributes:
        scratch: bytes of the buffer from which an engine is refitted, group by group; 0 where its inputs are bound.
            What is larger goes through page-locked host memory.
    """

    values: bool
    positions: bool
    own: bool
    scratch: int


def sizes_of(bank: EngineBank, tasks: int | None = None) -> Sizes:
    """Those of an engine for the first ``tasks`` tasks of ``bank``; all of them where it is not said."""
    tasks = len(bank.tasks) if tasks is None else tasks
    layout, itemsize = layout_of(bank.weights, bank.precision.dtype), bank.precision.dtype.itemsize
    tiles = -(-layout.banked // TILE)
    owned = sum(int(np.count_nonzero(ranks < tasks)) for ranks in bank.ranks.values())
    return Sizes(
        fixed=sum(array.nbytes for array in bank.fixed.values()),
        changing=sum(weight.count for weight in bank.weights) * itemsize,
        buffer=layout.bytes,
        largest=max(layout.room(slot) for slot in layout.slots) * itemsize,
        values=-(-owned * itemsize // 16) * 16,
        positions=tasks * tiles * TILE // 8,
        counts=tasks * (tiles + 1) * 4,
        own=tasks * (layout.count - layout.banked) * itemsize,
    )


def place(sizes: Sizes, switch: str, where: str) -> Placement:
    """Where everything goes.

    Args:
        switch: ``refit`` or ``bind``.
        where: the bank's place.

    Raises:
        UsageError: ``where`` is no place.
    """
    if where not in BANKS:
        raise UsageError(f"bank: expected one of {', '.join(BANKS)}, got {where!r}")
    refit, tenth = switch == "refit", sizes.model // SHARE
    if where == "device":
        scratch = max(sizes.largest, tenth) if refit else 0
        return Placement(values=True, positions=True, own=True, scratch=scratch)
    scratch = tenth if refit else 0
    left = 2 * tenth - scratch - sizes.counts
    own = sizes.own <= min(tenth, left)
    positions = sizes.positions <= min(tenth, left - own * sizes.own)
    return Placement(values=False, positions=positions, own=own, scratch=scratch)


def gpu_bytes(sizes: Sizes, switch: str, placement: Placement, resident: int = 1) -> Mapping[str, int]:
    """GPU memory for weights, part by part.

    Args:
        resident: how many tasks are held at once, each in a buffer of its own.
    """
    engine = {"in the plan": sizes.fixed}
    engine |= {"the engine's own": sizes.changing} if switch == "refit" else {"buffers": resident * sizes.buffer}
    return engine | {
        "scratch": placement.scratch,
        "values": placement.values * sizes.values,
        "positions": placement.positions * sizes.positions,
        "counts": sizes.counts,
        "heads and what else is own": placement.own * sizes.own,
    }
