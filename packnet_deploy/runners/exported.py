"""What ONNX files say about themselves, read without loading a weight: their tasks, where their data lies, and whether
they hold what a graph may hold (``allowed``)."""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import ModelProto, TensorProto

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError, reason
from packnet_deploy.pack.reading import open_regular
from packnet_deploy.runners.allowed import check_graph
from packnet_deploy.runners.sizes import Cost
from packnet_deploy.runners.wire import Buffer, skimmed


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
        UsageError: no model in the folder, or two files for one task.
        EnvironmentFault: no such file or folder.
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
        ArtefactError: not ONNX, or its data does not lie beside it, each tensor's in a place of its own.
        EnvironmentFault: it cannot be read.
    """
    expect_there(path)
    return _external(read_model(path), path)


def model_files(path: Path) -> tuple[Path, ...]:
    """The ONNX file and every external data file it names, each once; raises as ``external_tensors`` does."""
    return tuple(dict.fromkeys([path, *(tensor.file for tensor in external_tensors(path))]))


def read_model(path: Path) -> ModelProto:
    """The model at ``path`` without what its large tensors hold; nothing is checked but that it can be parsed.

    Raises:
        ArtefactError: it is not ONNX, or takes more than a graph may beside its weights.
        EnvironmentFault: it cannot be read.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        if not size:
            raise ArtefactError(f"{path}: expected an ONNX file, got an empty one")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # closed when nothing reads it
    return parse_model(data, str(path))


def parse_model(serialised: Buffer, where: str) -> ModelProto:
    """``read_model`` of a model in memory, which errors call ``where``."""
    try:
        return onnx.load_model_from_string(skimmed(serialised))
    except Exception as error:  # ValueError, or protobuf's DecodeError, under a name that differs between its backends
        raise ArtefactError(
            f"{where}: expected an ONNX file, got another or a damaged one ({reason(error)})"
        ) from error


def expect_allowed(model: Path | Buffer, where: str) -> Cost:
    """Hold an ONNX file, or a model in memory that has no data elsewhere, against docs/format.md.

    Returns:
        What it takes for one image.

    Raises:
        ArtefactError: it is not ONNX, holds what a graph may not hold, or its data is not where it has to be.
        EnvironmentFault: there is no such file, or it cannot be read.
    """
    if isinstance(model, Path):
        expect_there(model)
        parsed, size = read_model(model), model.stat().st_size
        _external(parsed, model)
    else:
        parsed, size = parse_model(model, where), len(model)
    try:
        return check_graph(parsed, size, data_beside=isinstance(model, Path))
    except ValueError as error:
        raise ArtefactError(
            f"{where}: {error}; what a graph may hold is in docs/format.md: do not use this one, or export it again"
        ) from error


def metadata_of(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def expect_there(path: Path) -> None:
    """Raises EnvironmentFault unless ``path`` is a file."""
    if not path.is_file():
        raise EnvironmentFault(f"{path}: expected an ONNX file, got no file; write it with packnet export")


def _external(model: ModelProto, path: Path) -> list[ExternalTensor]:
    found = []
    lengths: dict[Path, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        what, location = f"{path}: tensor {tensor.name!r}", said.get("location", "")
        file = path.parent / location
        if location != file.name or file.is_symlink() or not file.is_file():
            raise ArtefactError(f"{what}: expected its external data in a file beside it, got no file {location!r}")
        size = file.stat().st_size
        try:
            offset = int(said.get("offset", 0))
            length = int(said.get("length", size - offset))
            itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except (ValueError, KeyError):
            offset = length = itemsize = -1
        if not 0 <= offset <= offset + length <= size:
            raise ArtefactError(
                f"{what}: expected a place in a file beside it, got offset {said.get('offset', 0)!r} and length "
                f"{said.get('length', 'to the end')!r} of {file}, which has {size:,} bytes; export it again"
            )
        if length != prod(tensor.dims) * itemsize:
            raise ArtefactError(f"{what}: {length:,} bytes do not fill its shape; export it again")
        lengths[file] = lengths.get(file, 0) + length
        if lengths[file] > size:
            raise ArtefactError(f"{what}: expected a place of its own in {file}, got one that another has too")
        found.append(ExternalTensor(tensor.name, file, offset, length, tuple(tensor.dims), tensor.data_type))
    return found
