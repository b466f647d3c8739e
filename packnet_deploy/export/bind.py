"""From a pack to one task's model: the pack's graph with the task's tensors bound to its inputs, not yet serialised.

Layouts in which several tasks share a bank are ``deploy_bank``'s business.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.export.fold import fold_normalisation_in_place
from packnet_deploy.export.metadata import describe_task_in_place
from packnet_deploy.export.precision import type_graph_in_place, typed_tensors
from packnet_deploy.export.skeleton import drop_weight_inputs, expect_fit, load_skeleton, weight_inputs
from packnet_deploy.export.target import Target
from packnet_deploy.pack.chain import TaskWeights
from packnet_deploy.pack.directory import Pack


@dataclass
class BoundModel:
    """A model whose weights lie beside it."""

    model: ModelProto  # its inputs are those of a request; its initialisers, tiny constants aside, are `tensors`
    tensors: dict[str, npt.NDArray[Any]]  # in the order of the graph's inputs, new biases last

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator occurs, most frequent first."""
        return dict(Counter(node.op_type for node in self.model.graph.node).most_common())


def bind_task(pack: Pack, task: str, weights: TaskWeights, target: Target, layout: str) -> BoundModel:
    """Fold a task's normalisation, round its weights to the precision, and let the model say what it is.

    Laying the tensors out comes after.

    Args:
        weights: the task's, as the pack has them; they are folded in place.
        layout: goes into the metadata.

    Raises:
        UsageError: no such task, or a value does not fit the precision.
        ArtefactError: the pack's graph is damaged, or graph and weights do not fit together.
    """
    model = load_skeleton(pack, target)
    graph, spec = model.graph, target.sized(weights.input)
    expect_fit(graph, weights.tensors, len(weights.classes))
    tensors = {name: weights.tensors[name] for name in weight_inputs(graph)}
    fold_normalisation_in_place(graph, tensors)
    drop_weight_inputs(graph)
    describe_task_in_place(model, pack, layout, target.precision, pack.task(task), weights.classes, spec)
    type_graph_in_place(model, target.precision)
    return BoundModel(model, typed_tensors(tensors, target.precision))
