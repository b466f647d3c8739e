"""What an exported model says about itself: task, class names, preprocessing, and the pack state it came from.

Written here, and read again from a file without loading its weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from packnet_deploy import __version__
from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.skeleton import at_size
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.pack.manifest import TaskEntry


def describe_task_in_place(
    model: ModelProto, pack: Pack, options: ExportOptions, entry: TaskEntry, classes: Sequence[str], spec: InputSpec
) -> None:
    """For a model of one task: ``task`` is its name, ``classes`` a list of class names, ``preprocessing`` its input."""
    model.graph.name = entry.name
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(classes)
    own = {"task": entry.name, "classes": _json(list(classes)), "preprocessing": _json(_input(spec, options))}
    _describe(model, pack, options, entry, own)


def describe_tasks_in_place(
    model: ModelProto, pack: Pack, options: ExportOptions, tasks: Sequence[tuple[TaskEntry, Sequence[str], InputSpec]]
) -> None:
    """For a selector: ``tasks`` is a list of ``{"name", "classes", "preprocessing"}``, the first for task 1."""
    model.graph.name = "selector"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = max(len(classes) for _, classes, _ in tasks)
    listed = [
        {"name": entry.name, "classes": list(classes), "preprocessing": _input(spec, options)}
        for entry, classes, spec in tasks
    ]
    _describe(model, pack, options, tasks[-1][0], {"tasks": _json(listed)})


def read_model(path: Path) -> ModelProto:
    """The model at ``path`` without its external data.

    Raises:
        ArtefactError: it is not ONNX.
        EnvironmentFault: it cannot be read.
    """
    try:
        return onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:  # protobuf's DecodeError, under a name that differs between its backends
        reason = " ".join(str(error).split())
        raise ArtefactError(f"{path}: expected an ONNX file, got another or a damaged one ({reason})") from error


def metadata_of(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _describe(model: ModelProto, pack: Pack, options: ExportOptions, last: TaskEntry, own: dict[str, str]) -> None:
    """``last`` is the last delta that went into the model; through its parents it stands for the pack's state."""
    model.producer_name, model.producer_version = "packnet-deploy", __version__
    onnx.helper.set_model_props(
        model,
        {
            **own,
            "packnet.layout": options.layout,
            "packnet.precision": options.precision,
            "packnet.delta_sha256": last.sha256,
            "packnet.graph_sha256": pack.manifest.graph_sha256,
        },
    )


def _input(spec: InputSpec, options: ExportOptions) -> dict[str, Any]:
    return dict(sorted(at_size(spec, options).to_json().items()))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
