"""Packs made of arrays, without a network: what a trainer would hand over, small and from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.pack import (
    Backbone,
    InputSpec,
    NewTask,
    Pack,
    ParamSpec,
    TaskEntry,
    append_task,
    bank_sha256,
    create_pack,
    file_sha256,
)
from packnet_deploy.pack.delta import write_delta

SPEC = InputSpec((3, 8, 8), (0.5, 0.25, 0.125), (0.25, 0.5, 1.0), 8)
PARAMS = (ParamSpec("stem.weight", (3, 3, 3, 3)), ParamSpec("body.weight", (5, 13)), ParamSpec("one.weight", (1,)))
GRAPH = b"the pack never looks into its graph"
CLASSES = 2

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class World:
    """A finished packing: the final owners and weights, from which any of its tasks can be made."""

    params: tuple[ParamSpec, ...]
    owners: Arrays
    weights: Arrays
    shared: Arrays
    value_dtypes: tuple[str, ...]

    def owners_after(self, index: int) -> Arrays:
        return {name: np.where(owner <= index, owner, 0).astype(np.uint8) for name, owner in self.owners.items()}

    def dense(self, index: int) -> Arrays:
        """The weights of task ``index`` as its definition has them: where(support, weights, 0)."""
        zero = np.float32(0)
        return {name: np.where(owner > 0, self.weights[name], zero) for name, owner in self.owners_after(index).items()}

    def task(self, index: int, **changes: Any) -> NewTask:
        owners = self.owners_after(index)
        head = {"weight": np.full((CLASSES, 7), index, np.float32), "bias": np.arange(CLASSES, dtype=np.float32)}
        made = NewTask(
            name=f"task{index}",
            classes=tuple(f"class {n}" for n in range(CLASSES)),
            owners=owners,
            weights=self.weights,
            head=head,
            probe_logits=np.full((4, CLASSES), index, np.float32),
            frozen_sha256=bank_sha256(self.params, self.weights, owners, self.shared, index - 1),
            shared=self.shared if index == 1 else {},
            value_dtype=self.value_dtypes[index - 1],
        )
        return replace(made, **changes)

    def build(self, path: Path, tasks: int | None = None) -> Pack:
        """A pack of the first ``tasks`` tasks, all by default."""
        pack = create_pack(path, Backbone("custom", "fc"), SPEC, GRAPH, self.params)
        for index in range(1, (len(self.value_dtypes) if tasks is None else tasks) + 1):
            pack = append_task(pack, self.task(index))
        return pack

    def build_unchecked(self, path: Path) -> Pack:
        """The same pack without ``append_task``, which reads all earlier tasks again for each new one."""
        manifest = self.build(path, tasks=0).manifest
        for index in range(1, len(self.value_dtypes) + 1):
            entry = TaskEntry(f"task{index}", index, CLASSES, sha256="", bytes=0)
            file = path / entry.file
            with open(file, "wb") as out:
                write_delta(out, self.task(index), manifest)
            manifest = manifest.with_task(replace(entry, sha256=file_sha256(file), bytes=file.stat().st_size))
        (path / "pack.json").write_bytes(manifest.to_bytes())
        return Pack.open(path)


def make_world(
    params: Sequence[ParamSpec] = PARAMS,
    shares: Sequence[Sequence[float]] = ((0.3,), (0.5,), (0.5,)),
    value_dtypes: Sequence[str] | None = None,
    seed: int = 0,
) -> World:
    """Share out the weights at random.

    Args:
        shares: for every task, which part of each parameter's free weights it takes (1: all, 0: none); cycled.
        value_dtypes: one per task; float32 by default. All weights are numbers that every dtype holds exactly.
    """
    rng = np.random.default_rng(seed)
    owners: Arrays = {}
    weights: Arrays = {}
    for place, param in enumerate(params):
        owner = np.zeros(param.size, np.uint8)
        for index, taken in enumerate(shares, start=1):
            free = np.flatnonzero(owner == 0)
            owner[free[rng.random(len(free)) < taken[place % len(taken)]]] = index
        owners[param.name] = owner.reshape(param.shape)
        weights[param.name] = (rng.integers(-127, 128, param.shape) / 8).astype(np.float32)
    shared = {"stem.bias": np.arange(3, dtype=np.float32), "norm.running_var": np.ones(3, np.float32)}
    return World(tuple(params), owners, weights, shared, tuple(value_dtypes or ["float32"] * len(shares)))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by relative path: what must be equal when nothing may have changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def equal(left: Arrays, right: Arrays) -> bool:
    """Whether two sets of arrays have the same names, dtypes and bits."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].tobytes() == right[name].tobytes()
        for name in left
    )
