"""What an engine is given: its graph, the weights that never change, and for every task those that do.

The graph is the exports' own, normalisation folded and types in place. A weight changes with the task when it is
masked out of the bank, or when tasks do not have it in common: heads, and normalisation of a task's own. Heads are
padded with zeros to one width, so that one engine takes them all; whoever runs it cuts the logits to the task's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.errors import ArtefactError
from packnet_deploy.export.deploy_bank import DeployBank, DeployTask, in_common, load_deploy_bank
from packnet_deploy.export.precision import type_graph_in_place
from packnet_deploy.export.skeleton import Target
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
        """Everything the engine must be given to be ``task``: typed arrays by name, in the order of ``weights``.

        ``bank · (rank < index)``, then the task's ratio, in float32, rounded to the type; this is what the masking
        kernels do on a GPU, bit for bit.
        """
        return {name: self.masked(name, task) for name in self.values} | task.tensors

    def masked(self, name: str, task: DeployTask) -> Array:
        """One weight of the bank as ``task`` has it."""
        keep = self.ranks[name] < task.entry.index
        masked = np.where(keep, self.values[name], self.values[name].dtype.type(0))
        if name in task.ratios:
            masked = (masked.astype(np.float32) * task.ratios[name]).astype(masked.dtype)
        return masked

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
        switched: the names, bank aside, that change with the task, as a plan was built; None to find them out.

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
    fixed = [name for name in in_common(tensors) if not name.startswith("head.")]
    if switched is not None:
        if surplus := [name for name in tensors[0] if name not in fixed and name not in switched]:
            raise ArtefactError(
                f"tensor '{surplus[0]}': expected the same for every task, as the plan was built, got different ones; "
                "build the plan again"
            )
        fixed = [name for name in tensors[0] if name not in switched]
    model = ModelProto()
    model.CopyFrom(bank.model)
    type_graph_in_place(model, bank.precision)
    own = [{name: arrays[name] for name in tensors[0] if name not in fixed} for arrays in tensors]
    tasks = tuple(replace(task, tensors=tensors) for task, tensors in zip(bank.tasks, own, strict=True))
    return EngineBank(
        **vars(bank) | {"model": model, "tasks": tasks},
        fixed={name: tensors[0][name] for name in fixed},
        classes=classes,
    )
