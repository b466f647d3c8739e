"""The weight bank as exports hold it: normalisation folded in once for all tasks, and what each task has of its own.

The bank is scaled by the normalisation that tasks share. A task with normalisation of its own (``own/``) multiplies
its masked weights by a ratio per output channel on top, so the bank stays one, and stays as it is when tasks are
added. Where the shared scale is zero or tiny the bank is left unscaled, or the ratio could not bring it back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.export.fold import (
    Factors,
    Fold,
    Tensors,
    fold_biases_in_place,
    fold_graph_in_place,
    scaled,
)
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import Precision
from packnet_deploy.export.skeleton import drop_weight_inputs, expect_fit, load_skeleton, weight_inputs
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import TaskEntry

SMALLEST_SCALE = 1e-6  # far above float32's and far below any scale that a network's output could depend on


@dataclass(frozen=True)
class TaskSide:
    """What a task brings along beside its mask."""

    entry: TaskEntry
    classes: tuple[str, ...]
    input: InputSpec  # how its images become the input
    tensors: Tensors  # head, biases, normalisation that could not be folded: every input that is not in the bank
    ratios: Tensors  # by weight, where the task's scale is not the bank's; shaped to broadcast over the weight
    probe_logits: npt.NDArray[np.float32]  # [probe images, classes]


@dataclass(frozen=True)
class FoldedBank:
    """One graph and one bank for all tasks.

    Attributes:
        model: the pack's graph after folding, with ``images`` as its only input and no initialiser for the weights.
        values: by name, float32; free weights are 0.
        owners: by name, uint8: the owner's index minus one, 255 where a weight is free, so that ``owner <= task - 1``
            is the whole mask.
        tasks: every task of the pack, in order.
        folds: the normalisations that are in ``values`` and in the tasks' biases, in graph order.
    """

    model: ModelProto
    values: Tensors
    owners: dict[str, npt.NDArray[np.uint8]]
    tasks: tuple[TaskSide, ...]
    folds: tuple[Fold, ...]

    def dense_bytes(self, precision: Precision, tasks: Collection[str]) -> int:
        """What the tensors take with one dense export for each of ``tasks``."""
        bank = sum(array.size for array in self.values.values())
        sides = [side for side in self.tasks if side.entry.name in tasks]
        small = sum(array.size for side in sides for array in side.tensors.values())
        return precision.dtype.itemsize * (len(sides) * bank + small)


def load_folded_bank(pack: Pack, options: ExportOptions) -> FoldedBank:
    """Load every task of a pack and fold what may be folded.

    Raises:
        UsageError: the pack has no task.
        ArtefactError: the pack's files are damaged, or graph and weights do not fit together.
    """
    model = load_skeleton(pack, options)
    graph = model.graph
    with pack.opened() as opened:
        bank = opened.bank()
        sides = [(d.header, d.group("own"), d.group("head"), d.probe_logits) for d in opened.chain.deltas]
    inputs = weight_inputs(graph)
    own_tensors: list[Tensors] = []
    for header, own, head, _ in sides:
        small = bank.shared | own | {f"head.{name}": array for name, array in head.items()}
        expect_fit(graph, {**bank.values, **small}, len(header.classes))
        own_tensors.append({name: small[name] for name in inputs if name in small})

    folds = fold_graph_in_place(graph, {name: tuple(sizes) for name, sizes in inputs.items()})
    drop_weight_inputs(graph)
    scales = _bank_scales(fold_biases_in_place(folds, {**own_tensors[0], **bank.shared}))
    values = {name: scaled(array, scales[name]) if name in scales else array for name, array in bank.values.items()}
    tasks = []
    for entry, (header, _, _, probe_logits), tensors in zip(pack.tasks, sides, own_tensors, strict=True):
        factors = fold_biases_in_place(folds, tensors)
        ratios = {}
        for name, factor in factors.items():
            if name not in bank.values:  # a weight that every task has of its own, such as the head's
                tensors[name] = scaled(tensors[name], factor)
            elif np.any(factor != scales[name]):
                ratios[name] = (factor / scales[name]).astype(np.float32)
        spec = header.input or pack.input
        tasks.append(TaskSide(entry, header.classes, spec, tensors, ratios, probe_logits))
    owners = {name: owner - np.uint8(1) for name, owner in bank.owners.items()}  # 0, free, becomes 255
    return FoldedBank(model, values, owners, tuple(tasks), tuple(folds))


def padded_head(name: str, array: npt.NDArray[Any], classes: int) -> npt.NDArray[Any]:
    """A head's tensor with zeros for the classes it does not have; any other as it is."""
    if not name.startswith("head."):
        return array
    return np.pad(array, [(0, classes - len(array))] + [(0, 0)] * (array.ndim - 1))


def _bank_scales(shared: dict[str, Factors]) -> dict[str, Factors]:
    return {name: np.where(np.abs(scale) >= SMALLEST_SCALE, scale, 1.0) for name, scale in shared.items()}
