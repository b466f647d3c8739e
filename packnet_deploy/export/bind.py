"""From a pack to one task's model: the pack's graph with the task's tensors bound to its inputs, not yet serialised.

Layouts in which several tasks share a bank are ``deploy_bank``'s business.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.export.check import logits_at_size
from packnet_deploy.export.fold import fold_normalisation_in_place
from packnet_deploy.export.metadata import describe_task_in_place
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import type_graph_in_place, typed_tensors
from packnet_deploy.export.skeleton import drop_weight_inputs, expect_fit, load_skeleton, weight_inputs
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


def bind_task(pack: Pack, task: str, options: ExportOptions) -> tuple[BoundModel, npt.NDArray[np.float32]]:
    """Load a task, fold its normalisation, round to the precision, and let the model say what it is.

    ``options.layout`` only goes into the metadata; laying the tensors out comes after.

    Returns:
        The model, and the logits that it must give to the probe batch, float32 ``[probe images, classes]``.

    Raises:
        UsageError: no such task; a value does not fit the precision; or a model that is to be checked does not take
            the image size asked for.
        ArtefactError: the pack's files are damaged, or graph and weights do not fit together.
    """
    model = load_skeleton(pack, options)
    graph = model.graph
    weights = pack.load_task(task)
    expect_fit(graph, weights.tensors, len(weights.classes))
    expected = logits_at_size(pack, weights, options)
    tensors = {name: weights.tensors[name] for name in weight_inputs(graph)}
    fold_normalisation_in_place(graph, tensors)
    drop_weight_inputs(graph)
    describe_task_in_place(model, pack, options, pack.task(task), weights.classes, weights.input)
    type_graph_in_place(model, options.type)
    return BoundModel(model, typed_tensors(tensors, options.type)), expected
