"""What an exported model says about itself: task, class names, preprocessing, and the pack state it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import ModelProto

from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.skeleton import input_spec
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.manifest import TaskEntry


def describe_task_in_place(
    model: ModelProto, pack: Pack, options: ExportOptions, entry: TaskEntry, classes: Sequence[str]
) -> None:
    """For a model of one task: ``task`` is its name, ``classes`` a list of class names."""
    model.graph.name = entry.name
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(classes)
    _describe(model, pack, options, entry, {"task": entry.name, "classes": _json(list(classes))})


def describe_tasks_in_place(
    model: ModelProto, pack: Pack, options: ExportOptions, tasks: Sequence[tuple[TaskEntry, Sequence[str]]]
) -> None:
    """For a selector: ``tasks`` is a list of ``{"name", "classes"}``, the first for task 1 and so on."""
    model.graph.name = "selector"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = max(len(classes) for _, classes in tasks)
    listed = [{"name": entry.name, "classes": list(classes)} for entry, classes in tasks]
    _describe(model, pack, options, tasks[-1][0], {"tasks": _json(listed)})


def _describe(model: ModelProto, pack: Pack, options: ExportOptions, last: TaskEntry, own: dict[str, str]) -> None:
    """``last`` is the last delta that went into the model; through its parents it stands for the pack's state."""
    onnx.helper.set_model_props(
        model,
        {
            **own,
            "preprocessing": json.dumps(input_spec(pack, options).to_json(), sort_keys=True),
            "packnet.layout": options.layout,
            "packnet.precision": options.precision,
            "packnet.delta_sha256": last.sha256,
            "packnet.graph_sha256": pack.manifest.graph_sha256,
        },
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
