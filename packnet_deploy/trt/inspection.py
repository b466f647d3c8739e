"""What an engine is made of, as TensorRT tells it: its inspector's JSON, and the lines of its builder's log.

The inspector names the kernel (*tactic*) of each layer of an engine that is loaded; the log is all there is without a
GPU. Pure: texts in, names out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

_SPARSE_TACTIC = re.compile(r"spars|spmma|sp_?gemm", re.IGNORECASE)  # as in sm80_xmma_sparse_conv_...
_LOGGED = re.compile(
    r"(?:Chose (?P<count>\d+) layer\(s\) using sparse tactics|picked sparse implementation for layers)"  # 10.x; 8.x
    r"(?::\s*(?P<names>.*))?$"
)


@dataclass(frozen=True)
class Layer:
    """A layer of an engine; TensorRT has merged those of the graph into fewer.

    Attributes:
        nodes: names of the graph's nodes that it computes.
        kind: TensorRT's word for it.
        tactic: its kernel; "" where the plan was built without that much detail.
        ms: what it takes of one inference; None where that was not measured.
    """

    name: str
    nodes: tuple[str, ...]
    kind: str
    tactic: str
    ms: float | None = None

    @property
    def is_sparse(self) -> bool:
        return bool(_SPARSE_TACTIC.search(self.tactic))


def layers_of(information: str) -> tuple[Layer, ...]:
    """The layers in the JSON of TensorRT's engine inspector; none where it is not what is expected."""
    try:
        document = json.loads(information)
    except ValueError:
        return ()
    entries = document.get("Layers", []) if isinstance(document, dict) else []
    return tuple(_layer(entry) for entry in entries if isinstance(entry, (dict, str)))


def with_times(layers: Sequence[Layer], runs: Sequence[Mapping[str, float]]) -> tuple[Layer, ...]:
    """The same with the median time of each over several runs; those that ran and were not listed come last."""
    found = {name: median(run[name] for run in runs if name in run) for run in runs for name in run}
    listed = [replace(layer, ms=found.pop(layer.name, None)) for layer in layers]
    return (*listed, *(Layer(name, _nodes(name), "", "", ms) for name, ms in found.items()))


def picked_by_inspector(layers: Collection[Layer], names: Sequence[str]) -> dict[str, bool] | None:
    """For each of the graph's nodes, whether a sparse kernel runs it; None where no layer's kernel is known."""
    if not any(layer.tactic for layer in layers):
        return None
    sparse = {node for layer in layers if layer.is_sparse for node in layer.nodes}
    return {name: name in sparse for name in names}


def picked_by_log(lines: Sequence[str], names: Sequence[str]) -> dict[str, bool] | None:
    """The same by the builder's log; None where it did not tell, or told how many and not which.

    There is a line for each pass over the tactics; the last one is of the engine.
    """
    told = [found for line in lines if (found := _LOGGED.search(line.strip()))]
    if not told:
        return None
    listed, count = told[-1]["names"] or "", told[-1]["count"]
    if count not in (None, "0") and not listed:
        return None
    sparse = {node for name in listed.split(",") for node in _nodes(name)}
    return {name: name in sparse for name in names}


def _layer(entry: dict[str, Any] | str) -> Layer:
    if isinstance(entry, str):  # without detail there are names alone
        return Layer(entry, _nodes(entry), "", "")
    name = str(entry.get("Name", ""))
    told = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(entry.get("Metadata", "")))
    return Layer(
        name, tuple(told) or _nodes(name), str(entry.get("LayerType", "")), str(entry.get("TacticName", "")).strip()
    )


def _nodes(name: str) -> tuple[str, ...]:
    """The nodes in a layer's name, ``conv1 + relu1``."""
    return tuple(part.strip() for part in name.split(" + ") if part.strip())
