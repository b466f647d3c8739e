"""What an export can be asked for: every refusal, and what batch, opset and image size do to the graph."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from export_networks import Network, pack_of
from onnx import helper

from packnet_deploy.errors import UsageError
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack, probe_batch


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layout": "round"}, "layout: expected one of dense, sparse, shared, selector, got 'round'"),
        ({"precision": "int8"}, "precision: expected one of fp32, fp16, bf16, got 'int8'"),
        ({"engine": "openvino"}, "engine: expected one of onnxruntime, tensorrt"),
        ({"engine": "tensorrt"}, "engine: only a selector is written for one, got layout 'dense'"),
        ({"layout": "sparse", "precision": "bf16"}, "no sparse bf16"),
        ({"batch": "0"}, "batch: expected a number from 1 up, or dynamic, got '0'"),
        ({"batch": "-1"}, "batch: expected"),
        ({"batch": "two"}, "batch: expected"),
        ({"opset": 16}, "opset: expected 17 to"),
        ({"opset": 99}, "opset: expected 17 to"),
        ({"opset": 21, "precision": "bf16"}, "opset: bf16 for onnxruntime needs 22, got 21"),
        ({"opset": 18, "layout": "selector", "engine": "tensorrt"}, "for tensorrt needs 19, got 18"),
        ({"image_size": 0}, "image size: expected 1 or more"),
        ({"atol": -1.0}, "atol: expected 0 or more"),
        ({"rtol": float("nan")}, "rtol: expected 0 or more"),
    ],
)
def test_refusals(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportOptions(**wrong)


def sizes(path: Path) -> list[list[int | str]]:
    graph = onnx.load(path, load_external_data=False).graph
    ends = [value for value in (*graph.input, *graph.output) if value.name != "task"]
    return [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in ends]


@pytest.mark.parametrize("layout", ["dense", "shared", "selector"])
def test_a_fixed_batch(tiny_pack: Pack, tmp_path: Path, layout: str) -> None:
    options = ExportOptions(layout=layout, batch="3")  # the probe batch has four images: one full request, one padded
    if layout == "dense":
        report = export_task(tiny_pack, "second", tmp_path / "m", options)
    elif layout == "shared":
        report = export_shared(tiny_pack, ["second"], tmp_path / "m", options)
    else:
        report = export_selector(tiny_pack, tmp_path / "m", options)
    assert sizes(report.files[0]) == [[3, 3, 5, 6], [3, 4]]
    assert report.difference is not None
    assert report.difference.passes


@pytest.mark.parametrize("opset", [17, 20, 22])
def test_another_opset(tiny_pack: Pack, tmp_path: Path, opset: int) -> None:
    report = export_task(tiny_pack, "first", tmp_path / "m.onnx", ExportOptions(opset=opset))
    model = onnx.load(tmp_path / "m.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    onnx.checker.check_model(model, full_check=True)
    plain = export_task(tiny_pack, "first", tmp_path / "p.onnx")
    assert report.operators == plain.operators
    assert [node.name for node in model.graph.node] == [n.name for n in onnx.load(tmp_path / "p.onnx").graph.node]


def test_an_opset_without_the_graphs_operators(tiny: Network, tmp_path: Path) -> None:
    tiny.skeleton.graph.node[5].CopyFrom(helper.make_node("Gelu", ["n2"], ["r2"], "gelu"))
    pack = pack_of(tmp_path / "some.pack", tiny, {"only": 0.5})
    with pytest.raises(UsageError, match=r"opset: the graph cannot be brought from 20 to 17: .*Gelu"):
        export_task(pack, "only", tmp_path / "m.onnx", ExportOptions(opset=17))
    assert not (tmp_path / "m.onnx").exists()


def test_another_image_size(tiny: Network, tiny_pack: Pack, tmp_path: Path) -> None:
    report = export_task(tiny_pack, "second", tmp_path / "m.onnx", ExportOptions(image_size=10))
    assert sizes(tmp_path / "m.onnx") == [["batch", 3, 10, 10], ["batch", 4]]
    said = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(said["preprocessing"])["shape"] == [3, 10, 10]
    assert json.loads(said["preprocessing"])["resize"] == 16  # 8 for a shorter side of 5

    tiny.spec = replace(tiny.spec, shape=(3, 10, 10), resize=16)
    for axis in (2, 3):
        tiny.skeleton.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 10
    expected = tiny.logits(tiny_pack.load_task("second").tensors)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"images": probe_batch(tiny.spec)})
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    assert report.difference is not None
    assert report.difference.scale == pytest.approx(np.abs(expected).max(), rel=1e-5)


def test_an_image_size_that_the_network_does_not_take(tiny: Network, tmp_path: Path) -> None:
    nodes = tiny.skeleton.graph.node
    nodes[6].CopyFrom(helper.make_node("AveragePool", ["r2"], ["pool"], "pool", kernel_shape=[5, 6]))
    pack = pack_of(tmp_path / "some.pack", tiny, {"only": 0.5})
    with pytest.raises(UsageError, match="image size 12: the network does not take it"):
        export_task(pack, "only", tmp_path / "m.onnx", ExportOptions(image_size=12))
    assert not (tmp_path / "m.onnx").exists()
