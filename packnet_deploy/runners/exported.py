"""What exported files say about themselves, read without loading a weight: their tasks and where their data lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import ModelProto

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError


@dataclass(frozen=True)
class ExternalTensor:
    """An initialiser that lies in a data file beside the model."""

    name: str
    file: Path
    offset: int
    length: int  # bytes
    shape: tuple[int, ...]
    data_type: int  # in ONNX's numbering


class Selectable(NamedTuple):
    """One task of a selector, as its metadata has it."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Any  # an input description in JSON, not looked at yet; None where the model does not say


def tasks_in(path: Path) -> dict[str, Path]:
    """The tasks of an exported model, or of every model in a folder, with the file that serves each.

    A selector names its tasks, a model of one task that task; a model without metadata goes by its file name.

    Raises:
        UsageError: no such file or folder, no model in the folder, or two files for one task.
        ArtefactError: not an ONNX file, or its list of tasks is malformed.
    """
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path}: expected ONNX files in it, got none; write them with packnet export")
    found: dict[str, Path] = {}
    for file in files:
        expect_there(file)
        said = metadata_of(read_model(file))
        names = [each.name for each in selectable(said["tasks"], file)] if "tasks" in said else [said.get("task", "")]
        for name in (name or file.stem for name in names):
            if name in found:
                raise UsageError(f"{file}: task '{name}' is in {found[name]} as well; give one of the two")
            found[name] = file
    return found


def selectable(text: str, file: Path) -> list[Selectable]:
    """The tasks of a selector in the order of their indices, from its metadata.

    Raises:
        ArtefactError: malformed.
    """
    try:
        listed: Any = json.loads(text)
        tasks = [
            Selectable(str(item["name"]), tuple(map(str, item["classes"])), item.get("preprocessing"))
            for item in listed
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"{file}: metadata 'tasks': expected a JSON list of names and classes, got {text[:60]!r}; export it again"
        ) from error
    if not tasks:
        raise ArtefactError(f"{file}: metadata 'tasks': expected at least one task, got none; export it again")
    return tasks


def external_tensors(path: Path) -> list[ExternalTensor]:
    """Every initialiser of a model that lies beside it.

    Raises:
        UsageError: the model is not there.
        ArtefactError: not ONNX, a data file is missing or too short, or lies elsewhere than beside the model.
        EnvironmentFault: it cannot be read.
    """
    expect_there(path)
    graph = read_model(path).graph
    sparse = [part for tensor in graph.sparse_initializer for part in (tensor.values, tensor.indices)]
    found = []
    for tensor in (*graph.initializer, *sparse):
        said = {entry.key: entry.value for entry in tensor.external_data}
        if not said:
            continue
        file = path.parent / said.get("location", "")
        if not file.is_file():
            raise ArtefactError(f"{path}: expected its external data beside it, got no file {said.get('location')!r}")
        size = file.stat().st_size
        try:
            offset = int(said.get("offset", 0))
            length = int(said.get("length", size - offset))
        except ValueError:
            offset = length = -1
        if file.parent.resolve() != path.parent.resolve() or not 0 <= offset <= offset + length <= size:
            raise ArtefactError(
                f"{path}: tensor '{tensor.name}': expected a place in a file beside it, got offset "
                f"{said.get('offset', 0)} and length {said.get('length', 'to the end')} of {file}, which has "
                f"{size:,} bytes; export it again"
            )
        found.append(ExternalTensor(tensor.name, file, offset, length, tuple(tensor.dims), tensor.data_type))
    return found


def model_files(path: Path) -> tuple[Path, ...]:
    """The ONNX file and every external data file it names, each once; raises as ``external_tensors`` does."""
    return tuple(dict.fromkeys([path, *(tensor.file for tensor in external_tensors(path))]))


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


def expect_there(path: Path) -> None:
    """Raises UsageError unless ``path`` is a file."""
    if not path.is_file():
        raise UsageError(f"{path}: expected an ONNX file, got no file; write it with packnet export")
