"""The weight bank as exports and engines hold it: one for all tasks, typed, and what each task has of its own.

Its values are those of the pack, rounded to the type and never rescaled: each normalisation is a scale and a shift in
the graph (norms.py), which a task with normalisation of its own (``own/``) has of its own. So the bank stays one, and
stays as it is, whatever tasks are added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.export.fold import Tensors
from packnet_deploy.export.norms import Norm, unfold_norms_in_place, unfold_values_in_place
from packnet_deploy.export.precision import Precision, typed_tensors
from packnet_deploy.export.skeleton import drop_weight_inputs, expect_fit, load_skeleton, weight_inputs
from packnet_deploy.export.target import Target
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import TaskEntry
from packnet_deploy.pack.owners import OwnerMap

Array = npt.NDArray[Any]
RankMap = npt.NDArray[np.uint8]

NO_RANK = 255  # the rank of a weight without an owner: above every task's


@dataclass(frozen=True)
class DeployTask:
    """What a task brings along beside its mask.

    Attributes:
        input: how its images become the input, at the size made for.
        tensors: by name, typed: head, biases, scales and shifts; what is not in the bank.
    """

    entry: TaskEntry
    classes: tuple[str, ...]
    input: InputSpec
    tensors: dict[str, Array]

    @property
    def unpadded(self) -> dict[str, Array]:
        """``tensors``, the head as wide as the task has classes."""
        width = len(self.classes)
        return {name: a[:width] if name.startswith("head.") else a for name, a in self.tensors.items()}

    def padded(self, classes: int) -> dict[str, Array]:
        """``tensors``, the head with zeros for the classes that it does not have."""
        return {
            name: np.pad(a, [(0, classes - len(a))] + [(0, 0)] * (a.ndim - 1)) if name.startswith("head.") else a
            for name, a in self.tensors.items()
        }


@dataclass(frozen=True)
class DeployBank:
    """One graph and one bank for all tasks.

    Attributes:
        model: the pack's graph, scales and shifts in it, ``images`` its only input and no initialiser for the weights.
        values: by name, typed; free weights are 0.
        ranks: by name, uint8: the owner's index minus one, ``NO_RANK`` where a weight is free, so that a single
            comparison, ``rank < task``, is the whole mask.
        tasks: every task of the pack, in order.
        norms: the normalisations that are scales and shifts, in graph order; for runtimes that read a pack but no ONNX.
    """

    model: ModelProto
    precision: Precision
    values: dict[str, Array]
    ranks: dict[str, RankMap]
    tasks: tuple[DeployTask, ...]
    norms: tuple[Norm, ...]

    @property
    def widest(self) -> DeployTask:
        """The first of the tasks with the most classes."""
        return max(self.tasks, key=lambda task: len(task.classes))

    def dense_bytes(self, tasks: Collection[str]) -> int:
        """What the tensors take with one dense export for each of ``tasks``."""
        bank = sum(array.nbytes for array in self.values.values())
        chosen = [task for task in self.tasks if task.entry.name in tasks]
        return len(chosen) * bank + sum(array.nbytes for task in chosen for array in task.tensors.values())


def ranks_of(owners: Mapping[str, OwnerMap]) -> dict[str, RankMap]:
    """The ranks that owner maps give; 0, a free weight's owner, wraps round to ``NO_RANK``."""
    return {name: owner - np.uint8(1) for name, owner in owners.items()}


def in_common(tasks: Sequence[Mapping[str, Array]]) -> list[str]:
    """The names of the tensors that are the same for every task, in the first one's order."""
    first = tasks[0]
    return [name for name in first if all(np.array_equal(task[name], first[name]) for task in tasks[1:])]


def load_deploy_bank(pack: Pack, target: Target) -> DeployBank:
    """Load every task of a pack, typed; what is in the graph is typed by whoever finishes it.

    Raises:
        UsageError: the pack has no task, or a value does not fit the precision.
        ArtefactError: the pack's files are damaged, or graph and weights do not fit together.
    """
    model = load_skeleton(pack, target)
    graph = model.graph
    with pack.opened() as opened:
        bank = opened.bank()
        sides = [(d.header, d.group("own"), d.group("head")) for d in opened.chain.deltas]
    inputs = weight_inputs(graph)
    own_tensors: list[Tensors] = []
    for header, own, head in sides:
        small = bank.shared | own | {f"head.{name}": array for name, array in head.items()}
        expect_fit(graph, {**bank.values, **small}, len(header.classes))
        own_tensors.append({name: small[name] for name in inputs if name in small})

    norms = unfold_norms_in_place(model, inputs)
    drop_weight_inputs(graph)
    values = typed_tensors(bank.values, target.precision)
    tasks = []
    for entry, (header, _, _), tensors in zip(pack.tasks, sides, own_tensors, strict=True):
        unfold_values_in_place(norms, tensors)
        spec, typed = target.sized(header.input or pack.input), typed_tensors(tensors, target.precision)
        tasks.append(DeployTask(entry, header.classes, spec, typed))
    return DeployBank(model, target.precision, values, ranks_of(bank.owners), tuple(tasks), tuple(norms))
