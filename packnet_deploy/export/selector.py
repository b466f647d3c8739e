"""The selector: one graph for all tasks of a pack, with the task's index as a second input.

``task`` is int32 ``[1]``, 1 for the first task. The mask is computed at each run; heads, and whatever else tasks do
not have in common, are stacked, and the task picks its row. Logits are as wide as the widest head; those a task does
not have are -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper

from packnet_deploy.export.bind import BoundModel
from packnet_deploy.export.folded_bank import FoldedBank, TaskSide, padded_head
from packnet_deploy.export.masking import (
    INT8_SHIFT,
    OWNER_STEP,
    bank_name,
    int8_owners,
    mask_weights_in_place,
    owner_name,
    ratio_name,
)
from packnet_deploy.export.metadata import describe_tasks_in_place
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import type_graph_in_place, typed_tensors
from packnet_deploy.export.skeleton import LOGITS
from packnet_deploy.pack.directory import Pack

TASK = "task"

Array = npt.NDArray[Any]


def bind_selector(pack: Pack, bank: FoldedBank, options: ExportOptions) -> BoundModel:
    """The selector of every task in ``bank``; its arrays are not copied in fp32.

    A task outside 1..N is an error in ONNX Runtime, as far as it can be: the row that it names does not exist.

    Raises:
        UsageError: a value does not fit the precision.
    """
    model, graph = bank.model, bank.model.graph
    classes = max(len(side.classes) for side in bank.tasks)
    ratios = {
        name: _ratios(name, bank.tasks) for name in bank.values if any(name in side.ratios for side in bank.tasks)
    }
    mask_weights_in_place(graph, bank.values, ratios, "task/owner", options.engine)
    tensors: dict[str, Array] = {bank_name(name): array for name, array in bank.values.items()}
    owners = int8_owners(bank.owners) if options.engine == "tensorrt" else bank.owners
    tensors |= {owner_name(name): array for name, array in owners.items()}

    front = _read_task(options.engine, tensors)
    per_task = {ratio_name(name): arrays for name, arrays in ratios.items()}
    per_task |= {name: [padded_head(name, side.tensors[name], classes) for side in bank.tasks] for name in _names(bank)}
    for name, arrays in per_task.items():
        if all(np.array_equal(array, arrays[0]) for array in arrays):
            tensors[name] = arrays[0]
        else:
            tensors[f"{name}/tasks"] = np.stack(arrays)
            front.append(_row(name))
    if any(len(side.classes) < classes for side in bank.tasks):
        _pad_logits_in_place(model, bank.tasks, classes, tensors)
    for node in reversed(front):
        graph.node.insert(0, node)
    graph.input.append(helper.make_tensor_value_info(TASK, TensorProto.INT32, [1]))
    described = [(side.entry, side.classes, side.input) for side in bank.tasks]
    describe_tasks_in_place(model, pack, options, described)
    type_graph_in_place(model, options.type)
    return BoundModel(model, typed_tensors(tensors, options.type))


def _read_task(engine: str, tensors: dict[str, Array]) -> list[NodeProto]:
    """Nodes from ``task`` to ``task/owner``, which owners are compared with, and ``task/row``, a scalar index."""
    tensors["task/first"] = np.array([1], np.int32)
    tensors["task/axis"] = np.array([0], np.int64)
    nodes = [helper.make_node("Sub", [TASK, "task/first"], ["task/index"], "sub task/index")]
    row = "task/index"
    if engine == "tensorrt":
        tensors["task/least"] = np.array([1 + INT8_SHIFT], np.int32)
        tensors[OWNER_STEP] = np.array(1, np.float32)
        nodes += [
            helper.make_node("Sub", [TASK, "task/least"], ["task/int8"], "sub task/int8"),
            helper.make_node("Cast", ["task/int8"], ["task/owner"], "cast task/owner", to=TensorProto.FLOAT),
        ]
    else:
        # Through uint8 and back 0 becomes 255, a row that never exists; -1 would be the last task's.
        nodes += [
            helper.make_node("Cast", [row], ["task/owner"], "cast task/owner", to=TensorProto.UINT8),
            helper.make_node("Cast", ["task/owner"], ["task/checked"], "cast task/checked", to=TensorProto.INT32),
        ]
        row = "task/checked"
    return [*nodes, helper.make_node("Squeeze", [row, "task/axis"], ["task/row"], "squeeze task/row")]


def _row(name: str) -> NodeProto:
    return helper.make_node("Gather", [f"{name}/tasks", "task/row"], [name], f"gather {name}", axis=0)


def _names(bank: FoldedBank) -> list[str]:
    return list(bank.tasks[0].tensors)


def _ratios(name: str, sides: Sequence[TaskSide]) -> list[Array]:
    shape = next(side.ratios[name].shape for side in sides if name in side.ratios)
    return [side.ratios.get(name, np.ones(shape, np.float32)) for side in sides]


def _pad_logits_in_place(model: ModelProto, sides: Sequence[TaskSide], classes: int, tensors: dict[str, Array]) -> None:
    """Add -inf to the logits a task does not have, at the very end: some networks go on after the head."""
    narrow = f"{LOGITS}/head"
    for node in model.graph.node:
        node.input[:] = [narrow if name == LOGITS else name for name in node.input]
        node.output[:] = [narrow if name == LOGITS else name for name in node.output]
    tensors[f"{LOGITS}/padding/tasks"] = np.array(
        [[0.0 if i < len(side.classes) else -np.inf for i in range(classes)] for side in sides], np.float32
    )
    model.graph.node.append(_row(f"{LOGITS}/padding"))
    model.graph.node.append(helper.make_node("Add", [narrow, f"{LOGITS}/padding"], [LOGITS], "pad logits"))
