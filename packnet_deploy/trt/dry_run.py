"""``packnet build --dry-run``: what a build would mark, and what weights cost, in memory and at a switch. Needs no GPU.

Marks are TensorRT's own answers where it is installed; TensorRT-RTX gives them without a GPU as well. Activations,
workspace and TensorRT's own copies are not known before there is an engine on a GPU; they are left out and said to be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack.directory import Pack
from packnet_deploy.trt.bank import EngineBank, Weight
from packnet_deploy.trt.check import SWITCHED_BY_WEIGHTS
from packnet_deploy.trt.difference import order_by_owner, traffic
from packnet_deploy.trt.flavour import AUTO, FLAVOURS, load_flavour
from packnet_deploy.trt.graph import EngineGraph, engine_graph
from packnet_deploy.trt.groups import differs, groups_of, kinds_of
from packnet_deploy.trt.layout import flat_bank, layout_of
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import SWITCHES, BuildOptions
from packnet_deploy.trt.placement import BANKS, gpu_bytes, place, sizes_of
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
class Way:
    """One way to serve all tasks from one plan, or a plan for each.

    Attributes:
        bank: where it lies, ``host`` or ``device``; "" where there is none to switch from.
        memory: bytes of GPU memory for the weights of 1, 2, ... N tasks.
        parts: what those of N tasks are made of.
    """

    switch: str
    bank: str
    memory: tuple[int, ...]
    parts: Mapping[str, int]


@dataclass(frozen=True)
class Step:
    """A switch between two tasks, by their indices.

    Attributes:
        weights: of the bank that ``bind`` writes, values or zeros.
        values, positions, own: bytes that it reads for it where the bank lies: values of the owners between, masks and
            counts, what the task brings whole.
        launches: of kernels and copies.
        given: bytes of weights that ``refit`` gives to TensorRT, in so many ``groups``.
    """

    source: int
    target: int
    weights: int
    values: int
    positions: int
    own: int
    launches: int
    given: int
    groups: int


@dataclass(frozen=True)
class DryRun:
    """What a build would do.

    Attributes:
        asked: the TensorRT that was asked which weights it can refit; "" for none.
        model: bytes of one task's weights.
        steps: between every two tasks.
        recommended: the way to take, and why.
    """

    weights: tuple[SwitchedWeight, ...]
    asked: str
    model: int
    ways: tuple[Way, ...]
    steps: tuple[Step, ...]
    recommended: str


def dry_run(pack: Pack, options: BuildOptions) -> DryRun:
    """What an engine would be that any task of the pack can be switched to.

    Raises:
        UsageError: the pack has no task, or a value does not fit the precision.
        ArtefactError: the pack is damaged, or TensorRT's parser refuses its graph.
    """
    asked_for = replace(options, switch="refit", compute_capability=(), batch_profiles=(), channels_last=False)
    graph = engine_graph(pack, asked_for)
    asked, unmarked = _ask(graph, options.backend)
    eligible = {layer.name for layer in graph.sparsity if _eligible(layer, options)}
    itemsize = graph.bank.precision.dtype.itemsize
    ways = tuple(
        _way(graph.bank, switch, where)
        for switch in SWITCHES
        for where in (BANKS[::-1] if switch in SWITCHED_BY_WEIGHTS else ("",))
    )
    return DryRun(
        weights=tuple(
            SwitchedWeight(w, w.count * itemsize, w.name not in unmarked if asked else None, w.name in eligible)
            for w in graph.weights
        ),
        asked=asked,
        model=sizes_of(graph.bank).model,
        ways=ways,
        steps=_steps(graph.bank),
        recommended=_recommended(ways, sizes_of(graph.bank).model, len(eligible)),
    )


def _way(bank: EngineBank, switch: str, where: str) -> Way:
    memory = [_parts(bank, switch, where, tasks) for tasks in range(1, len(bank.tasks) + 1)]
    return Way(switch, where, tuple(sum(parts.values()) for parts in memory), memory[-1])


def _parts(bank: EngineBank, switch: str, where: str, tasks: int) -> Mapping[str, int]:
    """What the weights of the first ``tasks`` tasks take on the GPU, part by part."""
    sizes = sizes_of(bank, tasks)
    if switch in SWITCHED_BY_WEIGHTS:
        return gpu_bytes(sizes, switch, place(sizes, switch, where))
    values = sum(array.nbytes for array in bank.values.values())
    if switch == "selector":
        ranks = sum(array.nbytes for array in bank.ranks.values())
        padded = sum(array.nbytes for array in bank.tasks[0].tensors.values())  # the same for every task
        return {
            "in the plan": sizes.fixed,
            "bank": values,
            "owners": ranks,
            "heads and what else is own": tasks * padded,
        }
    own = sum(array.nbytes for task in bank.tasks[:tasks] for array in task.unpadded.values())
    return {"plans": tasks * (sizes.fixed + values) + own}


def _steps(bank: EngineBank) -> tuple[Step, ...]:
    layout = layout_of(bank.weights, bank.precision.dtype)
    ordered = order_by_owner(*flat_bank(layout, bank), len(bank.tasks))
    kinds, itemsize = kinds_of(bank), layout.dtype.itemsize
    capacity = place(sizes_of(bank), "refit", "host").scratch // itemsize
    counts = {weight.name: weight.count for weight in bank.weights}
    steps = []
    for source, target in permutations(range(1, len(bank.tasks) + 1), 2):
        cost = traffic(ordered, source, target)
        changed = [name for name in counts if differs(kinds[name], name in bank.values, source, target)]
        steps.append(
            Step(
                source,
                target,
                **asdict(cost),
                own=(layout.count - layout.banked) * itemsize,
                launches=bool(layout.banked) + 1,
                given=sum(counts[name] for name in changed) * itemsize,
                groups=len(groups_of(layout, [(name,) for name in changed], capacity)),
            )
        )
    return tuple(steps)


def _recommended(ways: Sequence[Way], model: int, sparse: int) -> str:
    switch = "refit" if sparse else "bind"
    way = next(way for way in ways if (way.switch, way.bank) == (switch, "host"))
    alone = next(way for way in ways if way.switch == "none").memory[-1]
    if alone <= way.memory[-1]:
        return (
            f"--switch none: a plan for each of {len(way.memory)} tasks takes {alone / model:.2f} models, no more than "
            f"one engine for all ({way.memory[-1] / model:.2f})"
        )
    why = f"{sparse} layers may run on sparse kernels" if sparse else "a switch writes the difference and nothing else"
    return (
        f"--switch {switch}, the bank on the host: {way.memory[-1] / model:.2f} models for {len(way.memory)} tasks, "
        f"where a plan for each takes {alone / model:.2f}; {why}"
    )


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
