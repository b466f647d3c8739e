"""The ONNX graph that TensorRT is given, for each way of switching tasks.

===========  =========================================================================
``none``     one task's weights inside, normalisation folded into them: its dense export
``refit``    the last task's weights inside, which are the union of all tasks'
``bind``     weights that change with the task are inputs, under their own names
``selector`` the bank and its ranks inside, the task an input (export/selector.py)
===========  =========================================================================

And which of its layers may run on sparse tensor cores whatever the task. A sparse kernel skips two of every four
inputs, so it needs weights in the 2:4 pattern (pack/pattern.py). One engine serves all tasks; supports nest, so where
the union over all tasks keeps to the pattern every task does, and the engine is safe if it is built from the union, the
last task's weights. All other weights that change, heads included, must be dense, and not by luck: those that the
engine is built with have no zero, so no sparse kernel can be chosen for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, helper

from packnet_deploy.errors import UsageError
from packnet_deploy.export.bind import bind_task
from packnet_deploy.export.deploy_bank import DeployBank, load_deploy_bank
from packnet_deploy.export.selector import bind_selector
from packnet_deploy.export.target import Target
from packnet_deploy.export.write import MAX_BYTES, model_buffers
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.pattern import fits, obeys
from packnet_deploy.runners.wire import size_of
from packnet_deploy.trt.bank import EngineBank, Weight, engine_bank
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import SparseLayer

FILLER = 2.0**-12  # in place of a zero; exact in every precision, and rewritten before the engine runs

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class EngineGraph:
    """A graph for TensorRT and what has to be known of it.

    Attributes:
        target: what it was made for.
        onnx: serialised, weights included.
        bank: what it was made from.
        weights: those that change with the task, to be marked (refit) or given as inputs (bind).
        classes: of its logits.
    """

    target: Target
    onnx: bytes
    bank: EngineBank
    weights: tuple[Weight, ...]
    sparsity: tuple[SparseLayer, ...]
    classes: int

    @property
    def may_be_sparse(self) -> bool:
        return any(layer.eligible for layer in self.sparsity)


def engine_graph(
    pack: Pack, options: BuildOptions, task: str | None = None, loaded: DeployBank | None = None
) -> EngineGraph:
    """The graph for ``options.switch``.

    Args:
        task: for switch ``none``, the one task.
        loaded: the pack's bank for these options, from whoever has it already.

    Raises:
        UsageError: no such task or none at all, a value does not fit the precision, or the graph is too large.
        ArtefactError: the pack is damaged.
    """
    if not pack.tasks:
        raise UsageError(f"{pack.path}: no task to build an engine for yet; train one first")
    target = options.target(pack)
    loaded = loaded or load_deploy_bank(pack, target)
    bank = engine_bank(loaded, options.classes)
    chosen = bank.tasks[-1] if task is None else bank.task(pack.task(task).name)
    sparsity = sparse_layers(pack, bank, chosen.entry.index)
    model, tensors, weights, classes = bank.model, dict(bank.fixed), bank.weights, bank.classes
    if options.switch == "selector":
        bound = bind_selector(pack, loaded, target)
        model, tensors, weights, classes = bound.model, bound.tensors, (), len(bank.widest.classes)
    elif options.switch == "none":
        alone = bind_task(pack, chosen.entry.name, pack.load_task(chosen.entry.name), target, "dense")
        model, tensors, weights, classes = alone.model, alone.tensors, (), len(chosen.classes)
    elif options.switch == "bind":
        model = _with_inputs(bank)
    else:
        switched = bank.materialise(chosen)
        if options.sparsity != "off":
            eligible = {layer.name for layer in sparsity if layer.eligible}
            switched = {name: a if name in eligible else without_zeros(a) for name, a in switched.items()}
        tensors |= switched
    return EngineGraph(target, _serialised(model, tensors), bank, weights, sparsity, classes)


def _with_inputs(bank: EngineBank) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(bank.model)
    for weight in bank.weights:
        model.graph.input.append(
            helper.make_tensor_value_info(weight.name, bank.precision.data_type, list(weight.shape))
        )
    return model


def _serialised(model: ModelProto, tensors: Tensors) -> bytes:
    buffers = model_buffers(model, dict(tensors))
    if size_of(buffers) > MAX_BYTES:
        raise UsageError(
            f"the graph takes {size_of(buffers):,} bytes, TensorRT's parser reads at most {MAX_BYTES:,}; "
            "use --precision fp16"
        )
    return b"".join(buffers)


def sparse_layers(pack: Pack, bank: EngineBank, last: int) -> tuple[SparseLayer, ...]:
    """For every weight of the bank, whether tasks 1 to ``last`` together keep to 2:4 along its inputs."""
    promised = {param.name for param in pack.packable if param.pattern}
    plain = _plain_layers(bank.model)
    return tuple(
        SparseLayer(
            name=name,
            eligible=name in plain and fits(rank.shape) and obeys(rank < last),
            promised=name in promised,
        )
        for name, rank in bank.ranks.items()
    )


def layer_names(graph: EngineGraph) -> dict[str, str]:
    """The node that reads each weight of the bank, by the weight's name."""
    nodes = {node.input[1]: node.name for node in graph.bank.model.graph.node if len(node.input) > 1}
    return {layer.name: nodes[layer.name] for layer in graph.sparsity if layer.name in nodes}


def with_picked(graph: EngineGraph, picked: Mapping[str, bool] | None) -> tuple[SparseLayer, ...]:
    """``graph.sparsity``, with what TensorRT told of each node; None where it did not tell."""
    names = layer_names(graph)
    return tuple(
        replace(layer, picked=None if picked is None else picked.get(names.get(layer.name, ""), False))
        for layer in graph.sparsity
    )


def why_dense(bank: EngineBank) -> str:
    """One line on why no layer of a bank is eligible."""
    indivisible = sum(not fits(rank.shape) for rank in bank.ranks.values())
    return (
        f"of {len(bank.ranks)} layers, {indivisible} have inputs that do not divide by 4, the others are grouped or "
        "use more than 2 of 4 inputs; train with --pattern 2:4"
    )


def without_zeros(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The weight with something small in place of every zero."""
    return np.where(weight == 0, weight.dtype.type(FILLER), weight)


def _plain_layers(model: onnx.ModelProto) -> set[str]:
    """Weights of ungrouped convolutions and of products whose inputs lie along dimension 1."""
    found = set()
    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if (node.op_type == "Conv" and attributes.get("group", 1) == 1) or (
            node.op_type == "Gemm" and attributes.get("transB", 0)
        ):
            found.add(node.input[1])
    return found
