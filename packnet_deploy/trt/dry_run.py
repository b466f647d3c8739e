"""``packnet build --dry-run``: what a build would mark, and the GPU memory that weights would take. Needs no GPU.

Marks are TensorRT's own answers where it is installed; TensorRT-RTX gives them without a GPU as well. Activations,
workspace and TensorRT's own copies are not known before there is an engine on a GPU; they are left out and said to be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack.directory import Pack
from packnet_deploy.trt.bank import EngineBank, Weight
from packnet_deploy.trt.flavour import AUTO, FLAVOURS, load_flavour
from packnet_deploy.trt.graph import EngineGraph, engine_graph
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import SWITCHES, BuildOptions
from packnet_deploy.trt.sidecar import SparseLayer


@dataclass(frozen=True)
class SwitchedWeight:
    """A weight that changes with the task.

    Attributes:
        marked: TensorRT can refit it; None where it was not asked.
        sparse: a sparse kernel may run it for any task.
    """

    weight: Weight
    bytes: int
    marked: bool | None
    sparse: bool


@dataclass(frozen=True)
class DryRun:
    """What a build would do.

    Attributes:
        asked: the TensorRT that was asked which weights it can refit; "" for none.
        memory: by way of switching, bytes of GPU memory for the weights of 1, 2, ... N tasks.
    """

    weights: tuple[SwitchedWeight, ...]
    asked: str
    memory: Mapping[str, tuple[int, ...]]


def dry_run(pack: Pack, options: BuildOptions) -> DryRun:
    """What a refittable engine would be.

    Raises:
        UsageError: the pack has no task, or a value does not fit the precision.
        ArtefactError: the pack is damaged, or TensorRT's parser refuses its graph.
    """
    graph = engine_graph(pack, replace(options, switch="refit", compute_capability=()))
    asked, unmarked = _ask(graph, options.backend)
    eligible = {layer.name for layer in graph.sparsity if _eligible(layer, options)}
    itemsize = graph.bank.precision.dtype.itemsize
    return DryRun(
        weights=tuple(
            SwitchedWeight(w, w.count * itemsize, w.name not in unmarked if asked else None, w.name in eligible)
            for w in graph.weights
        ),
        asked=asked,
        memory={
            switch: tuple(weight_bytes(graph.bank, switch, tasks) for tasks in range(1, len(graph.bank.tasks) + 1))
            for switch in SWITCHES
        },
    )


def weight_bytes(bank: EngineBank, switch: str, tasks: int) -> int:
    """GPU memory for the weights of the first ``tasks`` tasks, bank and ranks included: the sum of the tensors."""
    fixed = sum(array.nbytes for array in bank.fixed.values())
    values = sum(array.nbytes for array in bank.values.values())
    ranks = sum(array.nbytes for array in bank.ranks.values())
    padded = sum(array.nbytes for array in bank.tasks[0].tensors.values())  # the same for every task
    if switch == "none":
        own = sum(array.nbytes for task in bank.tasks[:tasks] for array in task.unpadded.values())
        return tasks * (fixed + values) + own
    if switch == "selector":
        return fixed + values + ranks + tasks * padded
    masked = values + padded  # the buffer that masking writes: an engine's inputs, or what it is refitted from
    engine = masked if switch == "refit" else 0
    return fixed + engine + masked + values + ranks


def _ask(graph: EngineGraph, backend: str) -> tuple[str, Collection[str]]:
    """Which TensorRT was asked, the first that is installed and starts here, and what it cannot refit."""
    names = [weight.name for weight in graph.weights]
    for name in FLAVOURS if backend == AUTO else (backend,):
        try:
            flavour = load_flavour(name)
            return f"{flavour.name} {flavour.version}", Network.parse(flavour, graph.onnx, names).unmarked
        except EnvironmentFault:
            continue
    return "", ()


def _eligible(layer: SparseLayer, options: BuildOptions) -> bool:
    return layer.eligible and options.sparsity != "off"
