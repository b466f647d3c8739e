"""What TensorRT tells of an engine: its inspector's JSON, and lines of its builder's log as users posted them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.errors import ArtefactError
from packnet_deploy.trt import loader
from packnet_deploy.trt.inspection import Layer, layers_of, picked_by_inspector, picked_by_log, with_times

# TensorRT 8.6, NVIDIA/TensorRT#4054 (shortened), and 8.0, #1403.
TRT_8 = "(Sparsity) Layers eligible for sparse math: MatMul_401, Conv_619 + Relu_620, Conv_622 + Relu_623"
TRT_8_NONE = "(Sparsity) TRT inference plan picked sparse implementation for layers:"
# TensorRT 10: two passes over the tactics, as posted by users of Jetson boards (JetPack 6, TensorRT 10.3).
TRT_10_FOUND = "(Sparsity) Found 39 layer(s) eligible to use sparse tactics"
TRT_10_NONE = "(Sparsity) Chose 0 layer(s) using sparse tactics"
NAMES = ("Conv_619", "Conv_622", "MatMul_401")


def test_a_log_that_tells_nothing() -> None:
    assert picked_by_log([], NAMES) is None
    assert picked_by_log([TRT_8], NAMES) is None
    assert picked_by_log([TRT_10_FOUND], NAMES) is None


@pytest.mark.parametrize("line", [TRT_8_NONE, TRT_10_NONE])
def test_a_log_of_no_sparse_layer(line: str) -> None:
    assert picked_by_log([TRT_8, TRT_10_FOUND, line], NAMES) == dict.fromkeys(NAMES, False)


@pytest.mark.parametrize("line", [TRT_8_NONE, TRT_10_NONE.replace("0", "2") + ":"])
def test_a_log_that_names_sparse_layers(line: str) -> None:
    """A layer is several nodes; names that begin alike are not the same."""
    said = f"{line} Conv_619 + Relu_620, Conv_6221"
    assert picked_by_log([said], NAMES) == {"Conv_619": True, "Conv_622": False, "MatMul_401": False}


def test_the_last_pass_counts() -> None:
    lines = [f"{TRT_8_NONE} Conv_619", f"{TRT_8_NONE} Conv_622"]
    assert picked_by_log(lines, NAMES) == {"Conv_619": False, "Conv_622": True, "MatMul_401": False}


def test_a_count_without_names_is_no_answer() -> None:
    assert picked_by_log([TRT_10_NONE.replace("0", "12")], NAMES) is None


# In the form of TensorRT 10's inspector with detail; values shortened.
INSPECTED = {
    "Layers": [
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "TacticName": "sm80_xmma_sparse_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize64x64x64",
            "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
        },
        {
            "Name": "conv2",
            "LayerType": "CaskConvolution",
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f16",
            "Metadata": "",
        },
        {"Name": "Reformat", "LayerType": "Reformat"},
    ],
    "Bindings": ["images", "logits"],
}


def test_the_inspector_names_each_layers_kernel() -> None:
    layers = layers_of(json.dumps(INSPECTED))
    assert [(layer.nodes, layer.kind, layer.is_sparse) for layer in layers] == [
        (("conv1", "relu1"), "CaskConvolution", True),
        (("conv2",), "CaskConvolution", False),
        (("Reformat",), "Reformat", False),
    ]
    assert picked_by_inspector(layers, ["conv1", "conv2"]) == {"conv1": True, "conv2": False}


def test_an_engine_without_detail_has_names_alone() -> None:
    layers = layers_of(json.dumps({"Layers": ["conv1 + relu1", "conv2"], "Bindings": []}))
    assert layers[0] == Layer("conv1 + relu1", ("conv1", "relu1"), "", "")
    assert picked_by_inspector(layers, ["conv1"]) is None


def test_each_layer_has_the_median_of_its_times() -> None:
    """A layer that runs and is not listed comes last; one that does not run has no time."""
    layers = layers_of(json.dumps(INSPECTED))
    runs = [{"conv1 + relu1": 0.5, "conv2": 3.0}, {"conv1 + relu1": 0.7, "conv2": 1.0, "odd": 0.1}]
    timed = with_times(layers, [*runs, {"conv1 + relu1": 9.0, "conv2": 2.0}])
    assert [(layer.name, layer.ms) for layer in timed] == [
        ("conv1 + relu1", 0.7),
        ("conv2", 2.0),
        ("Reformat", None),
        ("odd", 0.1),
    ]
    assert timed[0] == replace(layers[0], ms=0.7)


@pytest.mark.parametrize("information", ["", "not JSON", "[]", '{"Layers": [3]}'])
def test_what_is_no_inspection_has_no_layers(information: str) -> None:
    assert layers_of(information) == ()


def test_a_plan_shows_its_layers_after_it_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On TensorRT's stand-in."""
    pack, plan = growing_pack(tmp_path / "p.pack"), tmp_path / "x.plan"
    write_plan(plan, pack, "bind")
    trt = StandInTensorRT(StandInDevice(), "bind")
    monkeypatch.setattr(StandInTensorRT, "inspection", json.dumps(INSPECTED))
    monkeypatch.setattr(loader, "load_flavour", lambda name: trt.flavour)
    monkeypatch.setattr(loader, "expect_gpu", lambda purpose, index=0: GPU)
    assert [layer.name for layer in loader.layers_of_plan(plan)] == ["conv1 + relu1", "conv2", "Reformat"]
    monkeypatch.setattr(loader, "expect_gpu", lambda purpose, index=0: replace(GPU, compute_capability="7.5"))
    with pytest.raises(ArtefactError, match=r"compute capability: expected 8\.6, got 7\.5"):
        loader.layers_of_plan(plan)
    assert trt.loads == 1
