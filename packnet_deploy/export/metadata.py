"""What an exported model says about itself: task, class names, preprocessing, and the pack state it came from.

Reading it again, without loading a weight, is the runners' business (runners/exported.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import ModelProto

from packnet_deploy.export.precision import Precision
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import TaskEntry
from packnet_deploy.version import __version__

PRODUCER = "packnet-deploy"


def describe_task_in_place(
    model: ModelProto,
    pack: Pack,
    layout: str,
    precision: Precision,
    entry: TaskEntry,
    classes: Sequence[str],
    spec: InputSpec,
) -> None:
    """For a model of one task: ``task`` is its name, ``classes`` a list of class names, ``preprocessing`` its input."""
    model.graph.name = entry.name
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(classes)
    own = {"task": entry.name, "classes": _json(list(classes)), "preprocessing": _json(_input(spec))}
    _describe(model, pack, layout, precision, entry, own)


def describe_selector_in_place(
    model: ModelProto, pack: Pack, precision: Precision, tasks: Sequence[tuple[TaskEntry, Sequence[str], InputSpec]]
) -> None:
    """For a selector: ``tasks`` is a list of ``{"name", "classes", "preprocessing"}``, the first for task 1."""
    model.graph.name = "selector"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = max(len(classes) for _, classes, _ in tasks)
    listed = [
        {"name": entry.name, "classes": list(classes), "preprocessing": _input(spec)} for entry, classes, spec in tasks
    ]
    _describe(model, pack, "selector", precision, tasks[-1][0], {"tasks": _json(listed)})


def _describe(
    model: ModelProto, pack: Pack, layout: str, precision: Precision, last: TaskEntry, own: dict[str, str]
) -> None:
    """``last`` is the last delta that went into the model; through its parents it stands for the pack's state."""
    model.producer_name, model.producer_version = PRODUCER, __version__
    onnx.helper.set_model_props(
        model,
        {
            **own,
            "packnet.layout": layout,
            "packnet.precision": precision.name,
            "packnet.delta_sha256": last.sha256,
            "packnet.graph_sha256": pack.manifest.graph_sha256,
        },
    )


def _input(spec: InputSpec) -> dict[str, Any]:
    return dict(sorted(spec.to_json().items()))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
