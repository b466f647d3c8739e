"""What an engine is given: its graph, the weights that never change, and for every task those that do.

The graph is the exports' own, normalisation a scale and a shift, types in place. What changes with the task: weights of
the bank, heads, and normalisation, which a task to come may have of its own; so does whatever else tasks do not have in
common. A weight of the bank that is the first task's to the last one never changes. Heads are padded with zeros to one
width, so that one engine takes them all; whoever runs it cuts the logits to the task's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.errors import ArtefactError
from packnet_deploy.export.deploy_bank import DeployBank, DeployTask, in_common, load_deploy_bank
from packnet_deploy.export.precision import type_graph_in_place
from packnet_deploy.export.target import Target
from packnet_deploy.pack.directory import Pack

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Weight:
    """A tensor of the engine that changes with the task.

    Attributes:
        name: of the ONNX input or initialiser, and in the engine.
        dtype: fp32, fp16 or bf16.
        banked: masked out of the bank; if not, each task brings a whole tensor of its own.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    banked: bool

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class EngineBank(DeployBank):
    """A bank for one engine: what tasks have in common is set apart from what it is given with each of them.

    Attributes:
        values, ranks: of the weights that change with the task alone.
        tasks: their ``tensors`` are those that change with the task, heads padded to the engine's width.
        fixed: by name, typed: the weights that are the same for every task and go into the plan for good.
        classes: how many logits the engine has: at least the widest head's.
    """

    fixed: dict[str, Array]
    classes: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Every weight that changes with the task, those of the bank first, each kind in the order of the graph."""
        dtype = self.precision.name
        banked = [Weight(name, array.shape, dtype, True) for name, array in self.values.items()]
        return (*banked, *(Weight(name, array.shape, dtype, False) for name, array in self.tasks[0].tensors.items()))

    def task(self, name: str) -> DeployTask:
        return next(task for task in self.tasks if task.entry.name == name)

    def materialise(self, task: DeployTask) -> dict[str, Array]:
        """Everything the engine must be given to be ``task``: typed arrays by name, in the order of ``weights``."""
        index = task.entry.index
        masked = {n: np.where(self.ranks[n] < index, a, a.dtype.type(0)) for n, a in self.values.items()}
        return masked | task.tensors

    @cached_property
    def fixed_sha256(self) -> str:
        """Hash of ``fixed``: a pack whose tasks share other values than these needs another plan."""
        digest = hashlib.sha256()
        for name in sorted(self.fixed):
            array = self.fixed[name]
            digest.update(f"{name} {array.dtype.name} {' '.join(map(str, array.shape))}\n".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()


def load_engine_bank(
    pack: Pack, target: Target, classes: int = 0, switched: Collection[str] | None = None
) -> EngineBank:
    """``engine_bank`` of every task of a pack."""
    return engine_bank(load_deploy_bank(pack, target), classes, switched)


def engine_bank(bank: DeployBank, classes: int = 0, switched: Collection[str] | None = None) -> EngineBank:
    """A bank in the form that engines take; ``bank`` itself stays as it is.

    Args:
        classes: the engine's logits, where that is more than the widest head has.
        switched: the names of what changes with the task, as a plan was built; None to find them out.

    Raises:
        UsageError: a value of the graph does not fit the precision.
        ArtefactError: for the ``switched`` and ``classes`` of an existing plan: a task does not fit that plan.
    """
    widest = len(bank.widest.classes)
    if switched is not None and widest > classes:
        raise ArtefactError(
            f"task '{bank.widest.entry.name}': its {widest} classes do not fit the plan, which has {classes} "
            "logits; build the plan again"
        )
    classes = max(classes, widest)
    tensors = [task.padded(classes) for task in bank.tasks]
    changing = _changing(bank, tensors)
    if switched is None:
        switched = changing
    elif surplus := [name for name in (*bank.values, *tensors[0]) if name in changing and name not in switched]:
        raise ArtefactError(
            f"tensor '{surplus[0]}': expected the same for every task, as the plan was built, got different ones; "
            "build the plan again"
        )
    model = ModelProto()
    model.CopyFrom(bank.model)
    type_graph_in_place(model, bank.precision)
    everything = bank.values | tensors[0]
    own = [{name: a for name, a in arrays.items() if name in switched} for arrays in tensors]
    return EngineBank(
        **vars(bank)
        | {
            "model": model,
            "values": {name: a for name, a in bank.values.items() if name in switched},
            "ranks": {name: a for name, a in bank.ranks.items() if name in switched},
            "tasks": tuple(replace(t, tensors=o) for t, o in zip(bank.tasks, own, strict=True)),
        },
        fixed={name: array for name, array in everything.items() if name not in switched},
        classes=classes,
    )


def _changing(bank: DeployBank, tensors: Sequence[Mapping[str, Array]]) -> set[str]:
    """What changes with the task, or may with one to come."""
    common = set(in_common(tensors)) - _normalisation(bank)
    own = {name for name in tensors[0] if name.startswith("head.") or name not in common}
    return own | {name for name, ranks in bank.ranks.items() if ranks.any()}  # rank 0 is the first task's


def _normalisation(bank: DeployBank) -> set[str]:
    return {name for norm in bank.norms for name in (norm.scale, norm.shift)}
