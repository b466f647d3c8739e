"""Which layers may run on sparse tensor cores whatever the task.

A sparse kernel skips two of every four inputs, so it needs weights in the 2:4 pattern (pack/pattern.py). One engine
serves all tasks; supports nest, so where the union over all tasks keeps to the pattern every task does, and the engine
is safe if it is built from the union, the last task's weights. All other weights that change, heads included, must be
dense, and not by luck: those that the engine is built with have no zero, so no sparse kernel can be chosen for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.pattern import fits, obeys
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.sidecar import SparseLayer

FILLER = 2.0**-12  # in place of a zero; exact in every precision, and rewritten before the engine runs

Array = npt.NDArray[Any]


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


def why_dense(bank: EngineBank) -> str:
    """One line on why no layer of a bank is eligible."""
    indivisible = sum(not fits(rank.shape) for rank in bank.ranks.values())
    return (
        f"of {len(bank.ranks)} layers, {indivisible} have inputs that do not divide by 4, the others are grouped or "
        "use more than 2 of 4 inputs; train with --pattern 2:4"
    )


def without_zeros(weight: Array) -> Array:
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
