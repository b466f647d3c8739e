"""The weight bank in memory: values and owner maps of a pack, any task of it, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.pack.manifest import ParamSpec
from packnet_deploy.pack.owners import OwnerMap, support

_HASH_BLOCK = 1 << 20  # weights gathered at a time


@dataclass(frozen=True)
class WeightBank:
    """All owned weights of tasks 1..tasks; free ones are exactly 0.

    Attributes:
        values: float32, by packable parameter name, in pack.json's order.
        owners: uint8 owner maps of the same shapes.
        shared: float32, the parameters and buffers that are not packable, as task 1 left them.
    """

    packable: tuple[ParamSpec, ...]
    tasks: int
    values: dict[str, npt.NDArray[np.float32]]
    owners: dict[str, OwnerMap]
    shared: dict[str, npt.NDArray[np.float32]]

    def materialise(
        self, task: int, out: Mapping[str, npt.NDArray[np.float32]] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Task ``task``'s dense weights, zeros where it owns nothing; into ``out`` where given."""
        if not 1 <= task <= self.tasks:
            raise ValueError(f"task index: expected 1..{self.tasks}, got {task}")
        dense = {}
        for name, values in self.values.items():
            dense[name] = np.empty_like(values) if out is None else out[name]
            # As integers, times 0 or 1: the bits stay whatever the value is, in a tenth of the time of a masked copy.
            bits, keep = values.view(np.uint32), support(self.owners[name], task)
            np.multiply(bits, keep, out=dense[name].view(np.uint32))
        return dense

    def sha256(self, through: int) -> str:
        """Hash of everything tasks 1..through own: see :func:`bank_sha256`."""
        return bank_sha256(self.packable, self.values, self.owners, self.shared, through)


def bank_sha256(
    packable: Sequence[ParamSpec],
    values: Mapping[str, npt.NDArray[np.float32]],
    owners: Mapping[str, OwnerMap],
    shared: Mapping[str, npt.NDArray[Any]],
    through: int,
) -> str:
    """The ``frozen_sha256`` of docs/format.md, over a bank or a live module alike.

    SHA-256 over the little-endian float32 values of the weights owned by tasks 1..through, parameter after
    parameter in pack.json's order, each in C order; then over every shared tensor by rising name. Nothing is
    frozen before task 1, so ``through == 0`` hashes the empty string.
    """
    digest = hashlib.sha256()
    if through > 0:
        for param in packable:
            flat, owner = values[param.name].reshape(-1), owners[param.name].reshape(-1)
            for start in range(0, param.size, _HASH_BLOCK):
                block = slice(start, start + _HASH_BLOCK)
                owned = flat[block][np.flatnonzero(support(owner[block], through))]
                digest.update(owned.astype("<f4", copy=False).data)
        for name in sorted(shared):
            digest.update(np.ascontiguousarray(shared[name], "<f4").data)
    return digest.hexdigest()
