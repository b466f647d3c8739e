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
from packnet_deploy.export.deploy_bank import DeployBank, DeployTask, in_common
from packnet_deploy.export.mask_nodes import (
    INT8_SHIFT,
    RANK_STEP,
    bank_name,
    int8_ranks,
    mask_weights_in_place,
    rank_name,
)
from packnet_deploy.export.metadata import describe_selector_in_place
from packnet_deploy.export.precision import type_graph_in_place, typed_tensors
from packnet_deploy.export.target import TENSORRT, Target
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import LOGITS, TASK

Array = npt.NDArray[Any]


def bind_selector(pack: Pack, bank: DeployBank, target: Target) -> BoundModel:
    """The selector of every task in ``bank``, which stays as it is; its arrays are not copied in fp32.

    A task outside 1..N is an error in ONNX Runtime: the row that it names does not exist. So one tensor has rows even
    where tasks have all in common, as in a pack of one.

    Raises:
        UsageError: a value does not fit the precision.
    """
    model = ModelProto()
    model.CopyFrom(bank.model)
    graph = model.graph
    classes = len(bank.widest.classes)
    # Weights that are the first task's are everyone's.
    masked = {name: ranks for name, ranks in bank.ranks.items() if ranks.any()}
    mask_weights_in_place(graph, masked, "task/owner", target.engine)
    tensors = {bank_name(name) if name in masked else name: array for name, array in bank.values.items()}
    ranks = int8_ranks(masked) if target.engine == TENSORRT else masked
    tensors |= {rank_name(name): array for name, array in ranks.items()}

    front = _read_task(target.engine, tensors)
    per_task = [task.padded(classes) for task in bank.tasks]
    common = in_common(per_task)
    if len(common) == len(per_task[0]):
        common.remove(min(common, key=lambda name: per_task[0][name].size))
    for name, array in per_task[0].items():
        if name in common:
            tensors[name] = array
        else:
            tensors[f"{name}/tasks"] = np.stack([arrays[name] for arrays in per_task])
            front.append(_row(name))
    if any(len(task.classes) < classes for task in bank.tasks):
        _pad_logits_in_place(model, bank.tasks, classes, tensors)
    for node in reversed(front):
        graph.node.insert(0, node)
    graph.input.append(helper.make_tensor_value_info(TASK, TensorProto.INT32, [1]))
    described = [(task.entry, task.classes, task.input) for task in bank.tasks]
    describe_selector_in_place(model, pack, target.precision, described)
    type_graph_in_place(model, target.precision)
    return BoundModel(model, typed_tensors(tensors, target.precision))


def _read_task(engine: str, tensors: dict[str, Array]) -> list[NodeProto]:
    """Nodes from ``task`` to ``task/owner``, which ranks are compared with, and ``task/row``, a scalar index."""
    tensors["task/first"] = np.array([1], np.int32)
    tensors["task/axis"] = np.array([0], np.int64)
    nodes = [helper.make_node("Sub", [TASK, "task/first"], ["task/index"], "sub task/index")]
    row = "task/index"
    if engine == TENSORRT:
        tensors["task/least"] = np.array([1 + INT8_SHIFT], np.int32)
        tensors[RANK_STEP] = np.array(1, np.float32)
        nodes += [
            helper.make_node("Sub", [TASK, "task/least"], ["task/int8"], "sub task/int8"),
            helper.make_node("Cast", ["task/int8"], ["task/owner"], "cast task/owner", to=TensorProto.FLOAT),
        ]
    else:
        # Through uint32 what is below 0 becomes a row that never exists; -1 would be the last task's.
        nodes += [
            helper.make_node("Cast", [row], ["task/owner"], "cast task/owner", to=TensorProto.UINT8),
            helper.make_node("Cast", [row], ["task/unsigned"], "cast task/unsigned", to=TensorProto.UINT32),
            helper.make_node("Cast", ["task/unsigned"], ["task/checked"], "cast task/checked", to=TensorProto.INT64),
        ]
        row = "task/checked"
    return [*nodes, helper.make_node("Squeeze", [row, "task/axis"], ["task/row"], "squeeze task/row")]


def _row(name: str) -> NodeProto:
    return helper.make_node("Gather", [f"{name}/tasks", "task/row"], [name], f"gather {name}", axis=0)


def _pad_logits_in_place(
    model: ModelProto, tasks: Sequence[DeployTask], classes: int, tensors: dict[str, Array]
) -> None:
    """Add -inf to the logits a task does not have, at the very end: some networks go on after the head."""
    narrow = f"{LOGITS}/head"
    for node in model.graph.node:
        node.input[:] = [narrow if name == LOGITS else name for name in node.input]
        node.output[:] = [narrow if name == LOGITS else name for name in node.output]
    tensors[f"{LOGITS}/padding/tasks"] = np.array(
        [[0.0 if i < len(task.classes) else -np.inf for i in range(classes)] for task in tasks], np.float32
    )
    model.graph.node.append(_row(f"{LOGITS}/padding"))
    model.graph.node.append(helper.make_node("Add", [narrow, f"{LOGITS}/padding"], [LOGITS], "pad logits"))
