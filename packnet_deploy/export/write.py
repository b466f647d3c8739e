"""From a model and its tensors to files: laid out, serialised, written beside their place, and renamed into it.

A model is a list of buffers in protobuf's wire format, large tensors among them as they lie in memory. onnx's own
serialiser would copy every weight three times (into raw_data, into the message, into the string); here only the small
parts go through it, and the tensors are put between them as onnx.proto3 orders the fields. The bytes are the
serialiser's own, which the tests hold us to. The encoding is runners/wire.py's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto

from packnet_deploy.pack.atomic import expect_room, naming, sync_directory
from packnet_deploy.runners.wire import (
    GRAPH_INITIALISER,
    GRAPH_SPARSE_INITIALISER,
    MODEL_GRAPH,
    SPARSE_INDICES,
    SPARSE_VALUES,
    TENSOR_RAW_DATA,
    Buffer,
    length_delimited,
)

MAX_BYTES = 2**31 - 1  # protobuf's limit for one message

BYTES_PER_POSITION = 8  # of a sparse tensor: int64

EXTERNAL_FROM = 1024  # bytes; smaller tensors stay in the model, as onnx does it
ALIGNMENT = 4096  # of tensors in a data file, so that it can be mapped into memory

_DATA_TYPES = {
    np.dtype("<f4"): TensorProto.FLOAT,
    np.dtype("<f2"): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
    np.dtype("u1"): TensorProto.UINT8,
    np.dtype("i1"): TensorProto.INT8,
    np.dtype("<i4"): TensorProto.INT32,
    np.dtype("<i8"): TensorProto.INT64,
}

_Message = TypeVar("_Message", ModelProto, GraphProto)


@dataclass(frozen=True)
class SparseTensor:
    """The non-zeros of an array of shape ``shape``, in C-order."""

    values: npt.NDArray[Any]  # [non-zeros]
    positions: npt.NDArray[np.int64]  # [non-zeros], ascending indices into the flattened array
    shape: tuple[int, ...]


Laid = npt.NDArray[Any] | SparseTensor


def lay_out_sparse(tensors: Mapping[str, npt.NDArray[Any]], packed: Collection[str]) -> dict[str, Laid]:
    """Store sparse what is smaller so; names and order are kept, dense arrays are not copied.

    Args:
        packed: names of the packable weights; all others stay dense.
    """
    return {name: _smaller(array) if name in packed else array for name, array in tensors.items()}


@dataclass(frozen=True)
class DataFile:
    """Tensors laid one after the other in a file beside the model, each at a multiple of ``ALIGNMENT``."""

    headers: tuple[bytes, ...]  # serialised TensorProtos that point into the file
    buffers: tuple[Buffer, ...]  # the file itself


def model_buffers(model: ModelProto, tensors: Mapping[str, Laid], files: Sequence[DataFile] = ()) -> list[Buffer]:
    """The serialised ``model`` with ``tensors`` and those of ``files`` as further initialisers.

    The arrays must not change until the buffers are written.
    """
    dense = [_tensor(name, array) for name, array in tensors.items() if not isinstance(array, SparseTensor)]
    dense += [[header] for file in files for header in file.headers]
    sparse = [_sparse(name, array) for name, array in tensors.items() if isinstance(array, SparseTensor)]
    return _model(model, dense, sparse)


def data_file(tensors: Mapping[str, npt.NDArray[Any]], location: str) -> DataFile:
    """Lay ``tensors`` into a file that will be called ``location``; which bytes go where depends on shapes alone."""
    headers: list[bytes] = []
    buffers: list[Buffer] = []
    offset = 0
    for name, array in tensors.items():
        padding = -offset % ALIGNMENT
        content = _memory(array)
        buffers += [bytes(padding), content]
        offset += padding
        header = _header(name, array)
        for key, value in (("location", location), ("offset", offset), ("length", len(content))):
            header.external_data.add(key=key, value=str(value))
        header.data_location = TensorProto.EXTERNAL
        headers.append(header.SerializeToString())
        offset += len(content)
    return DataFile(tuple(headers), tuple(buffers))


def external_buffers(
    model: ModelProto, tensors: Mapping[str, npt.NDArray[Any]], location: str
) -> tuple[list[Buffer], list[Buffer]]:
    """``model_buffers`` with all but the small tensors in a second file called ``location``: (model, data file)."""
    small = {name: array for name, array in tensors.items() if array.nbytes < EXTERNAL_FROM}
    file = data_file({name: array for name, array in tensors.items() if name not in small}, location)
    return model_buffers(model, small, [file]), list(file.buffers)


def write_buffers(path: Path, buffers: Sequence[Buffer]) -> None:
    """Write and fsync a new file."""
    expect_room(path, sum(memoryview(buffer).nbytes for buffer in buffers))
    with naming(path), open(path, "wb", buffering=0) as file:
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:  # one write call takes at most 2 GiB
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def move_into_place(files: Sequence[Path], folder: Path) -> None:
    """Rename ``files`` into ``folder`` in order, replacing what is there, and make the renames last."""
    for file in files:
        os.replace(file, folder / file.name)
    sync_directory(folder)


def _smaller(array: npt.NDArray[Any]) -> Laid:
    bytes_per_non_zero = array.itemsize + BYTES_PER_POSITION
    if bytes_per_non_zero * np.count_nonzero(array) >= array.nbytes:
        return array
    flat = array.reshape(-1)
    positions = np.flatnonzero(flat).astype(np.int64, copy=False)
    return SparseTensor(flat[positions], positions, array.shape)


def _model(model: ModelProto, dense: list[list[Buffer]], sparse: list[list[Buffer]]) -> list[Buffer]:
    graph: list[Buffer] = [_fields(model.graph, 0, GRAPH_INITIALISER + 1)]
    for buffers in dense:
        graph += length_delimited(GRAPH_INITIALISER, buffers)
    graph.append(_fields(model.graph, GRAPH_INITIALISER + 1, GRAPH_SPARSE_INITIALISER + 1))
    for buffers in sparse:
        graph += length_delimited(GRAPH_SPARSE_INITIALISER, buffers)
    graph.append(_fields(model.graph, GRAPH_SPARSE_INITIALISER + 1))
    before, after = _fields(model, 0, MODEL_GRAPH), _fields(model, MODEL_GRAPH + 1)
    return [before, *length_delimited(MODEL_GRAPH, graph), after]


def _tensor(name: str, array: npt.NDArray[np.generic]) -> list[Buffer]:
    return [_header(name, array).SerializeToString(), *length_delimited(TENSOR_RAW_DATA, [_memory(array)])]


def _sparse(name: str, tensor: SparseTensor) -> list[Buffer]:
    return [
        *length_delimited(SPARSE_VALUES, _tensor(name, tensor.values)),
        *length_delimited(SPARSE_INDICES, _tensor("", tensor.positions)),
        SparseTensorProto(dims=tensor.shape).SerializeToString(),
    ]


def _header(name: str, array: npt.NDArray[np.generic]) -> TensorProto:
    """A TensorProto without its data: dims, data_type and name, all of them fields before raw_data."""
    header = TensorProto(dims=array.shape, data_type=_DATA_TYPES[array.dtype.newbyteorder("<")])
    if name:
        header.name = name
    return header


def _memory(array: npt.NDArray[np.generic]) -> memoryview:
    """The array's bytes, little-endian and in C-order; a copy only where it lies otherwise."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _fields(message: _Message, start: int, stop: int | None = None) -> bytes:
    """The serialised fields of ``message`` whose numbers lie in ``start <= number < stop``."""
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.number < start or (stop is not None and field.number >= stop):
            part.ClearField(field.name)
    return bytes(part.SerializeToString())
