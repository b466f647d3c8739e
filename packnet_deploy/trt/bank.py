"""What an engine is given: its graph, the weights that never change, and for every task those that do.

The graph is the exports' own, normalisation folded and types in place. A weight changes with the task when it is
masked out of the bank, or when tasks do not have it in common: heads, and normalisation of a task's own. Heads are
padded with zeros to one width, so that one engine takes them all; whoever runs it cuts the logits to the task's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.errors import ArtefactError
from packnet_deploy.export.fold import Fold
from packnet_deploy.export.folded_bank import TaskSide, load_folded_bank, padded_head
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import Precision, type_graph_in_place, typed_tensors
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.manifest import TaskEntry

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
class EngineTask:
    """One task's side of an engine.

    Attributes:
        tensors: by name, typed: every weight that changes with the task and is not in the bank.
        ratios: by name of a banked weight, float32, shaped to broadcast over it: factors that this task multiplies
            its masked weights by. Empty unless it has normalisation of its own.
        probe_logits: float32 ``[probe images, classes]``, the pack's.
    """

    entry: TaskEntry
    classes: tuple[str, ...]
    tensors: dict[str, Array]
    ratios: dict[str, npt.NDArray[np.float32]]
    probe_logits: npt.NDArray[np.float32]

    @property
    def unpadded(self) -> dict[str, Array]:
        """``tensors``, the head as wide as the task has classes."""
        width = len(self.classes)
        return {name: a[:width] if name.startswith("head.") else a for name, a in self.tensors.items()}


@dataclass(frozen=True)
class EngineBank:
    """One graph and one bank for all tasks, in the engine's types.

    Attributes:
        model: ``images`` is its only input; no weight is in it yet.
        fixed: by name, typed: the weights that are the same for every task and go into the plan for good.
        values: by name, typed: the bank; free weights are 0.
        owners: by name, uint8: the owner's index minus one, 255 where a weight is free.
        classes: how many logits the engine has: at least the widest head's.
        folds: how ``values`` came from the pack's weights, for runtimes that read a pack but no ONNX.
    """

    model: ModelProto
    precision: Precision
    fixed: dict[str, Array]
    values: dict[str, Array]
    owners: dict[str, npt.NDArray[np.uint8]]
    tasks: tuple[EngineTask, ...]
    classes: int
    folds: tuple[Fold, ...]

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Every weight that changes with the task, those of the bank first, each kind in the order of the graph."""
        dtype = self.precision.name
        banked = [Weight(name, array.shape, dtype, True) for name, array in self.values.items()]
        return (*banked, *(Weight(name, array.shape, dtype, False) for name, array in self.tasks[0].tensors.items()))

    def task(self, name: str) -> EngineTask:
        return next(task for task in self.tasks if task.entry.name == name)

    def materialise(self, task: EngineTask) -> dict[str, Array]:
        """Everything the engine must be given to be ``task``: typed arrays by name, in the order of ``weights``.

        ``bank · (owner < index)``, then the task's ratio, in float32, rounded to the type; this is what the masking
        kernels do on a GPU, bit for bit.
        """
        return {name: self.masked(name, task) for name in self.values} | task.tensors

    def masked(self, name: str, task: EngineTask) -> Array:
        """One weight of the bank as ``task`` has it."""
        keep = self.owners[name] < task.entry.index
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
    pack: Pack, options: ExportOptions, classes: int = 0, switched: Collection[str] | None = None
) -> EngineBank:
    """Load every task of a pack in the form that engines take.

    Args:
        options: precision, batch, image size and opset; the layout does not matter.
        classes: the engine's logits, where that is more than the widest head has.
        switched: the names, bank aside, that change with the task, as a plan was built; None to find them out.

    Raises:
        UsageError: the pack has no task, or a value does not fit the precision.
        ArtefactError: the pack's files are damaged; or for the ``switched`` and ``classes`` of an existing plan, a
            task does not fit that plan.
    """
    folded = load_folded_bank(pack, options)
    widest = max(len(side.classes) for side in folded.tasks)
    if switched is not None and widest > classes:
        side = max(folded.tasks, key=lambda side: len(side.classes))
        raise ArtefactError(
            f"task '{side.entry.name}': its {len(side.classes)} classes do not fit the plan, which has {classes} "
            "logits; build the plan again"
        )
    classes = max(classes, widest)
    sides = [
        {name: padded_head(name, array, classes) for name, array in typed_tensors(side.tensors, options.type).items()}
        for side in folded.tasks
    ]
    varying = [name for name in sides[0] if name.startswith("head.") or _differ([side[name] for side in sides])]
    if switched is not None and (surplus := [name for name in varying if name not in switched]):
        raise ArtefactError(
            f"tensor '{surplus[0]}': expected the same for every task, as the plan was built, got different ones; "
            "build the plan again"
        )
    varying = [name for name in sides[0] if name in (varying if switched is None else switched)]
    type_graph_in_place(folded.model, options.type)
    return EngineBank(
        model=folded.model,
        precision=options.type,
        fixed={name: array for name, array in sides[0].items() if name not in varying},
        values=typed_tensors(folded.values, options.type),
        owners=folded.owners,
        tasks=tuple(
            _task(side, {name: tensors[name] for name in varying})
            for side, tensors in zip(folded.tasks, sides, strict=True)
        ),
        classes=classes,
        folds=folded.folds,
    )


def _task(side: TaskSide, tensors: dict[str, Array]) -> EngineTask:
    return EngineTask(side.entry, side.classes, tensors, side.ratios, side.probe_logits)


def _differ(arrays: list[Array]) -> bool:
    return any(not np.array_equal(array, arrays[0]) for array in arrays[1:])
