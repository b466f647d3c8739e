"""Normalisation as a scale and a shift: the same logits, one operator less to share a bank, the rounding promised."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from export_networks import NORM, Network, Tensors, one_layer, run, skeleton
from onnx import helper

from packnet_deploy.export.norms import unfold_norms_in_place, unfold_values_in_place


def unfolded(model: onnx.ModelProto, tensors: Tensors) -> tuple[onnx.ModelProto, Tensors]:
    """Unfold copies; the graph's inputs are stated afresh, since unfolding leaves them alone."""
    copy, arrays = onnx.ModelProto(), dict(tensors)
    copy.CopyFrom(model)
    unfold_values_in_place(unfold_norms_in_place(copy, arrays), arrays)
    del copy.graph.input[1:]
    copy.graph.input.extend(helper.make_tensor_value_info(n, 1, a.shape) for n, a in arrays.items())
    onnx.checker.check_model(copy)
    return copy, arrays


@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_a_layer_gives_the_same(kind: str) -> None:
    model, tensors, images = one_layer(kind)
    other, arrays = unfolded(model, tensors)
    assert set(arrays) == {"w", "b", "n.scale", "n.shift"}
    assert arrays["n.scale"].shape == ((5, 1, 1) if kind == "Conv" else (5,))
    expected = run(model, {"images": images, **tensors})
    np.testing.assert_allclose(run(other, {"images": images, **arrays}), expected, rtol=1e-5, atol=1e-6)


def test_a_network_gives_the_same_and_its_weights_stay(tiny: Network) -> None:
    model, arrays = unfolded(tiny.skeleton, tiny.tensors)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert arrays["a.weight"] is tiny.tensors["a.weight"]
    images = np.random.default_rng(1).normal(size=(2, 3, 5, 6)).astype(np.float32)
    expected = run(tiny.skeleton, {"images": images, **tiny.tensors})
    np.testing.assert_allclose(run(model, {"images": images, **arrays}), expected, rtol=1e-5, atol=1e-6)


def test_scale_and_shift_are_rounded_once() -> None:
    model, tensors, _ = one_layer("Conv")
    _, arrays = unfolded(model, tensors)
    gamma, beta, mean, variance = (tensors[name].astype(np.float64) for name in NORM)
    scale = gamma / np.sqrt(variance + 1e-5)
    np.testing.assert_array_equal(arrays["n.scale"].reshape(-1), scale.astype(np.float32))
    np.testing.assert_array_equal(arrays["n.shift"].reshape(-1), (beta - mean * scale).astype(np.float32))


def test_two_that_share_values_each_get_a_name() -> None:
    """What both read is gone when neither is there; a name that the graph has already is not taken."""
    tensors = {name: np.full(3, 2, np.float32) for name in NORM} | {"n.scale": np.ones((1, 3, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Mul", ["images", "n.scale"], ["m"], "m"),
        helper.make_node("BatchNormalization", ["m", *NORM], ["x"], "first"),
        helper.make_node("BatchNormalization", ["x", *NORM], ["y"], "second"),
        helper.make_node("Flatten", ["y"], ["logits"], "flat"),
    ]
    shapes: dict[str, list[int | str]] = {"images": ["batch", 3, 2, 2]}
    shapes |= {name: list(array.shape) for name, array in tensors.items()}
    _, arrays = unfolded(skeleton(nodes, shapes), tensors)
    assert set(arrays) == {"n.scale", "n.scale/2", "n.scale/3", "n.shift", "n.shift/2"}


def test_one_whose_values_are_not_given_stays() -> None:
    model, tensors, _ = one_layer("Conv")
    assert unfold_norms_in_place(model, set(tensors) - {"n.bias"}) == []
    assert [node.op_type for node in model.graph.node] == ["Conv", "BatchNormalization", "Flatten"]
