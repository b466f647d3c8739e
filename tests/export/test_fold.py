"""Folding: the same logits, nothing folded that may not be, and the rounding that is promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from export_networks import Network, Tensors, one_layer, run
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from packnet_deploy.export.fold import fold_normalisation_in_place


def folded(model: onnx.ModelProto, tensors: Tensors) -> tuple[onnx.ModelProto, Tensors, list[str]]:
    """Fold copies; the graph's inputs are stated afresh, since folding leaves them alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    arrays = {name: array.copy() for name, array in tensors.items()}
    names = fold_normalisation_in_place(copy.graph, arrays)
    images = copy.graph.input[0]
    inputs = [images] + [helper.make_tensor_value_info(n, 1, a.shape) for n, a in arrays.items()]
    del copy.graph.input[1:]
    copy.graph.input.extend(inputs[1:])
    onnx.checker.check_model(copy)
    return copy, arrays, names


def test_a_network_keeps_its_logits_and_loses_its_normalisation(tiny: Network) -> None:
    model, arrays, names = folded(tiny.skeleton, tiny.tensors)
    assert names == ["n1", "n2"]
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 0
    assert set(arrays) == {"a.weight", "a.bias", "b.weight", "b.bias", "head.weight", "head.bias"}
    expected = tiny.logits(tiny.tensors)
    got = Network(model, arrays, tiny.spec).logits(arrays)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("kind", "attributes"), [("Conv", {}), ("Gemm", {"transB": 1}), ("Gemm", {}), ("Gemm", {"transB": 0})]
)
def test_layers_fold_along_their_output_channels(kind: str, attributes: dict[str, int]) -> None:
    model, tensors, images = one_layer(kind, **attributes)
    after, arrays, names = folded(model, tensors)
    assert names == ["norm"]
    expected = run(model, {"images": images, **tensors})
    np.testing.assert_allclose(run(after, {"images": images, **arrays}), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_weights_are_rounded_once_from_float64(seed: int, spread: float) -> None:
    model, tensors, _ = one_layer("Conv")
    rng = np.random.default_rng(seed)
    for name in tensors:
        tensors[name] = rng.uniform(0.01, spread + 0.02, tensors[name].shape).astype(np.float32)
    exact = {name: array.astype(np.float64) for name, array in tensors.items()}
    scale = exact["n.weight"] / np.sqrt(exact["n.running_var"] + 1e-5)
    _, arrays, _ = folded(model, tensors)
    np.testing.assert_array_equal(arrays["w"], (exact["w"] * scale[:, None, None, None]).astype(np.float32))
    shifted = (exact["b"] - exact["n.running_mean"]) * scale + exact["n.bias"]
    np.testing.assert_array_equal(arrays["b"], shifted.astype(np.float32))


def test_the_weight_keeps_its_memory() -> None:
    model, tensors, _ = one_layer("Conv")
    weight = tensors["w"]
    fold_normalisation_in_place(model.graph, tensors)
    assert tensors["w"] is weight


def test_zeros_stay_zero() -> None:
    model, tensors, _ = one_layer("Conv")
    tensors["w"][1:3] = 0
    _, arrays, _ = folded(model, tensors)
    assert np.count_nonzero(arrays["w"]) == np.count_nonzero(tensors["w"])


def second_reader(model: onnx.ModelProto, tensors: Tensors) -> None:
    model.graph.node[2].CopyFrom(helper.make_node("Flatten", ["both"], ["logits"]))
    model.graph.node.insert(2, helper.make_node("Add", ["x", "y"], ["both"]))


def shared_weight(model: onnx.ModelProto, tensors: Tensors) -> None:
    second_reader(model, tensors)
    model.graph.node[2].input[0] = "z"
    model.graph.node.insert(2, helper.make_node("Conv", ["images", "w"], ["z"]))


def shared_bias(model: onnx.ModelProto, tensors: Tensors) -> None:
    second_reader(model, tensors)
    model.graph.node[2].input[0] = "z"
    model.graph.node.insert(2, helper.make_node("Conv", ["images", "w2", "b"], ["z"]))
    model.graph.input.append(helper.make_tensor_value_info("w2", 1, tensors["w"].shape))
    tensors["w2"] = tensors["w"] + 1


def between(model: onnx.ModelProto, tensors: Tensors) -> None:
    model.graph.node[1].input[0] = "r"
    model.graph.node.insert(1, helper.make_node("Relu", ["x"], ["r"]))


@pytest.mark.parametrize("change", [second_reader, shared_weight, shared_bias, between])
def test_what_may_not_be_folded_stays(change: Any) -> None:
    model, tensors, images = one_layer("Conv")
    change(model, tensors)
    expected = run(model, {"images": images, **tensors})
    after, arrays, names = folded(model, tensors)
    assert names == []
    assert set(arrays) == set(tensors)
    np.testing.assert_array_equal(run(after, {"images": images, **arrays}), expected)


def test_a_scaled_gemm_stays() -> None:
    model, tensors, _ = one_layer("Gemm", transB=1, alpha=0.5)
    assert folded(model, tensors)[2] == []


def test_a_taken_bias_name_keeps_the_node(tiny: Network) -> None:
    tiny.tensors["a.bias"] = np.zeros(3, np.float32)  # another tensor that happens to have the name
    names = fold_normalisation_in_place(tiny.skeleton.graph, tiny.tensors)
    assert names == ["n2"]
