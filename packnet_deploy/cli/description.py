"""What a path holds, found out from its content: a pack, a task delta, an ONNX file, a TensorRT plan; as JSON values.

Printing them is inspect.py; what the fields are, docs/json.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

PLAN_MAGIC = (b"ftrt", b"ptrt", b"vtrt")  # how engines of TensorRT, old and new, and of TensorRT-RTX begin


def describe(path: Path) -> dict[str, Any]:
    """What ``path`` holds, as JSON values.

    Raises:
        EnvironmentFault: there is nothing at ``path``.
        ArtefactError: it is none of the kinds known, or damaged.
    """
    from packnet_deploy.errors import ArtefactError, EnvironmentFault

    if not path.exists():
        raise EnvironmentFault(f"{path}: expected a pack, a delta, an ONNX file or a plan, got nothing: no such file")
    if path.is_dir():
        return _describe_pack(path)
    if not path.is_file():
        raise ArtefactError(f"{path}: not a regular file")  # a pipe or a device: reading it might never end
    with open(path, "rb") as file:
        start = file.read(9)
    if start[:4] in PLAN_MAGIC:
        return _describe_plan(path)
    if start[8:] == b"{":  # safetensors: a length of 8 bytes, then JSON
        return _describe_delta(path)
    try:
        return _describe_onnx(path)
    except ArtefactError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise ArtefactError(f"{path}: neither a pack, nor an ONNX file, nor a TensorRT plan ({why})") from error


def _describe_pack(path: Path) -> dict[str, Any]:
    from packnet_deploy.pack import Pack

    pack = Pack.open(path)
    with pack.opened() as opened:
        layers = opened.capacity()
        headers = [opened.header(entry.name) for entry in opened.tasks]
    listed = {entry.file for entry in pack.tasks}
    return {
        "kind": "pack",
        "path": str(path),
        "arch": pack.backbone.arch,
        "input": pack.input.to_json(),
        "weights": pack.manifest.weights,
        "room": sum(layer.room for layer in layers),
        "free": sum(layer.free for layer in layers),
        "bytes": sum(entry.bytes for entry in pack.tasks) + (path / "graph.onnx").stat().st_size,
        "graph_sha256": pack.manifest.graph_sha256,
        "tasks": [
            {
                "name": entry.name,
                "index": entry.index,
                "classes": list(header.classes),
                "owned": sum(layer.owned[entry.index - 1] for layer in layers),
                "bytes": entry.bytes,
                "sha256": entry.sha256,
                "parent": header.parent,
                "frozen_sha256": header.frozen_sha256,
                "input": (header.input or pack.input).to_json(),
                "report": dict(header.report),
            }
            for entry, header in zip(pack.tasks, headers, strict=True)
        ],
        "layers": [asdict(layer) | {"room": layer.room, "free": layer.free} for layer in layers],
        "unlisted_files": sorted(
            str(file.relative_to(path))
            for file in (path / "deltas").glob("*")
            if str(file.relative_to(path)) not in listed
        ),
    }


def _describe_delta(path: Path) -> dict[str, Any]:
    from packnet_deploy.pack import DeltaHeader, file_sha256
    from packnet_deploy.pack.tensorfile import TensorFile

    with TensorFile(path) as file:
        header = DeltaHeader.of(file)
        owned = sum(entry.size for name, entry in file.entries.items() if name.startswith("values/"))
    return {
        "kind": "delta",
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "task": header.task,
        "index": header.index,
        "classes": list(header.classes),
        "owned": owned,
        "parent": header.parent,
        "graph_sha256": header.graph_sha256,
        "input": None if header.input is None else header.input.to_json(),  # None: as the pack's
        "report": dict(header.report),
    }


def _describe_onnx(path: Path) -> dict[str, Any]:
    from packnet_deploy.errors import ArtefactError
    from packnet_deploy.pack import file_sha256
    from packnet_deploy.runners.exported import model_files, read_model

    model = read_model(path)
    if not model.graph.node:
        raise ArtefactError("it has no nodes")
    graph = model.graph
    operators: dict[str, int] = {}
    for node in graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return {
        "kind": "onnx",
        "path": str(path),
        "bytes": sum(file.stat().st_size for file in model_files(path)),
        "sha256": file_sha256(path),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": {value.name: _shape(value) for value in graph.input},
        "outputs": {value.name: _shape(value) for value in graph.output},
        "operators": dict(sorted(operators.items())),
        "tensors": len(graph.initializer),
        "sparse_tensors": len(graph.sparse_initializer),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }


def _describe_plan(path: Path) -> dict[str, Any]:
    from packnet_deploy.pack import file_sha256
    from packnet_deploy.trt.sidecar import read_sidecar, sidecar_path

    about: dict[str, Any] = {
        "kind": "plan",
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "sidecar": None,
    }
    if sidecar_path(path).exists():
        about["sidecar"] = json.loads(read_sidecar(path).to_bytes())
        about["fits"] = about["sidecar"]["plan_sha256"] == about["sha256"]
    return about


def _shape(value: Any) -> list[int | str]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
