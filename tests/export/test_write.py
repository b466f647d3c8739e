"""Our serialiser against onnx's own, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_networks import Network
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from packnet_deploy.export.write import ALIGNMENT, SparseTensor, external_buffers, model_buffers, write_buffers
from packnet_deploy.runners.wire import size_of

shapes = st.lists(st.integers(0, 40), max_size=4).map(tuple)


def with_metadata(model: ModelProto) -> ModelProto:
    helper.set_model_props(model, {"task": "Blätter", "classes": "[]"})
    model.graph.initializer.append(numpy_helper.from_array(np.float32(6), "constant"))
    return model


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1), shapes, max_size=4), st.dictionaries(st.text(min_size=1), shapes, max_size=3)
)
def test_the_bytes_are_those_of_onnx(dense: dict[str, tuple[int, ...]], sparse: dict[str, tuple[int, ...]]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    model = with_metadata(helper.make_model(graph, producer_name="packnet-deploy"))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in dense.items()}
    tensors = dict(arrays) | {
        f"sparse {name}": SparseTensor(
            rng.normal(size=5).astype(np.float32), np.array([0, 3, 4, 7, 2**40], np.int64), shape
        )
        for name, shape in sparse.items()
    }
    got = b"".join(model_buffers(model, tensors))

    for name, tensor in tensors.items():
        if isinstance(tensor, SparseTensor):
            values = numpy_helper.from_array(tensor.values, name)
            indices = numpy_helper.from_array(tensor.positions)
            model.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=tensor.shape))
        else:
            model.graph.initializer.append(numpy_helper.from_array(tensor, name))
    assert got == model.SerializeToString()


def test_arrays_are_not_copied() -> None:
    array = np.zeros((300, 40), np.float32)
    buffers = model_buffers(ModelProto(), {"w": array})
    assert any(np.shares_memory(np.frombuffer(buffer, np.uint8), array) for buffer in buffers if buffer)


def test_arrays_in_another_order_are_written_in_c_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    model = onnx.load_from_string(b"".join(model_buffers(ModelProto(), {"w": array})))
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), array)


def test_external_data_is_read_back_by_onnx(tiny: Network, tmp_path: Path) -> None:
    arrays = {**tiny.tensors, "large": np.arange(3000, dtype=np.float32)}
    model, data = external_buffers(tiny.skeleton, arrays, "m.onnx.data")
    write_buffers(tmp_path / "m.onnx", model)
    write_buffers(tmp_path / "m.onnx.data", data)
    assert size_of(data) == (tmp_path / "m.onnx.data").stat().st_size
    loaded = onnx.load(tmp_path / "m.onnx")  # reads the data file
    got = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)


def test_external_tensors_are_aligned_and_small_ones_stay(tiny: Network) -> None:
    tiny.tensors["c.weight"] = np.zeros((17, 31), np.float32)
    model, _ = external_buffers(tiny.skeleton, tiny.tensors, "data")
    tensors = onnx.load_model_from_string(b"".join(model)).graph.initializer
    external = {t.name: dict((e.key, e.value) for e in t.external_data) for t in tensors if t.external_data}
    assert set(external) == {name for name, array in tiny.tensors.items() if array.nbytes >= 1024}
    assert len(external) >= 2
    assert all(int(entry["offset"]) % ALIGNMENT == 0 for entry in external.values())


def test_a_dtype_that_no_layout_uses_is_refused() -> None:
    with pytest.raises(KeyError):
        model_buffers(ModelProto(), {"w": np.zeros(3, np.float64)})  # type: ignore[dict-item]
