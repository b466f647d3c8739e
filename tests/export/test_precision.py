"""Reduced precision: the types in the graph, the rounding, what does not fit, and the same answers."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from export_networks import Network, pack_of
from onnx import TensorProto, helper, numpy_helper

from packnet_deploy.errors import CheckFailed, UsageError
from packnet_deploy.export import check
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import PRECISIONS, type_graph_in_place, typed_tensors
from packnet_deploy.export.report import ExportReport
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack

TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def export(pack: Pack, folder: Path, layout: str, precision: str) -> ExportReport:
    """The second task in any layout, to a file or folder called ``m``."""
    options = ExportOptions(layout=layout, precision=precision)
    if layout == "shared":
        return export_shared(pack, ["second"], folder / "m", options)
    if layout == "selector":
        return export_selector(pack, folder / "m", options)
    return export_task(pack, "second", folder / "m", options)


@pytest.mark.parametrize(
    ("layout", "precision"),
    [
        (layout, p)
        for layout in ("dense", "sparse", "shared", "selector")
        for p in TYPES
        if (layout, p) != ("sparse", "bf16")
    ],
)
def test_weights_and_activations_are_typed_and_ends_are_float32(
    tiny_pack: Pack, tmp_path: Path, layout: str, precision: str
) -> None:
    report = export(tiny_pack, tmp_path, layout, precision)
    assert report.difference is not None
    assert 0 < report.difference.max_difference <= report.difference.allowed
    model = onnx.load(report.files[0])
    ends = [value for value in (*model.graph.input, *model.graph.output) if value.name != "task"]
    assert [value.type.tensor_type.elem_type for value in ends] == [TensorProto.FLOAT, TensorProto.FLOAT]
    tensors = [*model.graph.initializer, *(sparse.values for sparse in model.graph.sparse_initializer)]
    floating = {t.name: t.data_type for t in tensors if t.data_type in (TensorProto.FLOAT, *TYPES.values())}
    assert set(floating.values()) == {TYPES[precision]}
    if layout != "sparse":  # onnx's own inference does not know sparse initialisers
        onnx.checker.check_model(str(report.files[0]), full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
        inner = {v.name: v.type.tensor_type.elem_type for v in inferred}
        assert inner["r1"] == inner["pool"] == TYPES[precision]


def test_fp32_is_left_alone(tiny: Network) -> None:
    before = tiny.skeleton.SerializeToString()
    type_graph_in_place(tiny.skeleton, PRECISIONS["fp32"])
    assert tiny.skeleton.SerializeToString() == before
    typed = typed_tensors(tiny.tensors, PRECISIONS["fp32"])
    assert all(typed[name] is array for name, array in tiny.tensors.items())


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_values_are_rounded_to_nearest(precision: str, dtype: type) -> None:
    array = np.random.default_rng(0).normal(size=100).astype(np.float32)
    typed = typed_tensors({"w": array, "owner": np.zeros(3, np.uint8)}, PRECISIONS[precision])
    np.testing.assert_array_equal(typed["w"], array.astype(dtype))
    assert typed["owner"].dtype == np.uint8


def test_constants_and_casts_of_the_graph_follow() -> None:
    nodes = [
        helper.make_node("Clip", ["images", "low", "high"], ["c"]),
        helper.make_node("Constant", [], ["three"], value=numpy_helper.from_array(np.float32(3))),
        helper.make_node("Add", ["c", "three"], ["s"]),
        helper.make_node("Shape", ["s"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["i"], to=TensorProto.INT64),
        helper.make_node("Expand", ["s", "i"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("images", "logits")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    graph.initializer.extend(numpy_helper.from_array(np.float32(v), n) for n, v in (("low", 0), ("high", 6)))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    type_graph_in_place(model, PRECISIONS["fp16"])
    onnx.checker.check_model(model, full_check=True)
    assert {t.data_type for t in model.graph.initializer} == {TensorProto.FLOAT16}
    assert model.graph.node[2].attribute[0].t.data_type == TensorProto.FLOAT16
    (result,) = onnx.reference.ReferenceEvaluator(model).run(None, {"images": np.float32([[-1, 1], [5, 9]])})
    np.testing.assert_array_equal(result, np.float32([[3, 4], [8, 9]]))


@pytest.mark.parametrize("layout", ["dense", "sparse", "shared", "selector"])
def test_a_bank_that_overflows_is_refused_by_name(tiny: Network, tmp_path: Path, layout: str) -> None:
    """Normalisation goes into the weight where the task is by itself, and is a scale where tasks share a bank."""
    tiny.tensors["n2.weight"] *= np.float32(1e6)
    name = r"b\.weight" if layout in ("dense", "sparse") else r"n2\.scale"
    pack = pack_of(tmp_path / "some.pack", tiny, {"first": 0.5, "second": 0.5})
    with pytest.raises(UsageError, match=rf"tensor '{name}': its value \S+ does not fit fp16, whose largest is 6"):
        export(pack, tmp_path, layout, "fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["some.pack"]


def test_the_largest_values_that_fit() -> None:
    fits, too_large = np.float32([65504, -65519]), np.float32([65520])
    assert np.all(np.isfinite(typed_tensors({"w": fits}, PRECISIONS["fp16"])["w"]))
    with pytest.raises(UsageError, match=r"'w': its value 6\.552e\+04 .* use --precision bf16, fp32"):
        typed_tensors({"w": too_large}, PRECISIONS["fp16"])
    with pytest.raises(UsageError, match=r"bf16, whose largest is 3\.39e\+38; use --precision fp32"):
        typed_tensors({"w": np.float32([3.4e38])}, PRECISIONS["bf16"])
    minus_infinity = typed_tensors({"padding": np.float32([-np.inf, 0])}, PRECISIONS["fp16"])["padding"]
    assert minus_infinity[0] == -np.inf


@pytest.mark.parametrize("layout", ["dense", "shared", "selector"])
def test_activations_that_overflow_are_found_though_the_cpu_hides_them(
    tiny: Network, tmp_path: Path, layout: str
) -> None:
    """The weights fit, and so do the logits; only what flows between two layers does not."""
    tiny.tensors["n1.bias"][:] = 60000
    tiny.tensors["b.weight"][:] = 1
    tiny.tensors["n2.weight"][:] = 1
    tiny.tensors["head.weight"] *= np.float32(1e-3)
    pack = pack_of(tmp_path / "some.pack", tiny, {"first": 1.0, "second": 1.0})
    activation = "n2" if layout == "dense" else "b"  # what a layer gives, before its scale, where that is apart
    with pytest.raises(CheckFailed, match=f"activation '{activation}' leaves float16's range"):
        export(pack, tmp_path, layout, "fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["some.pack"]
    export(pack, tmp_path, layout, "bf16")


def test_the_check_of_bf16_sees_wrong_types_and_wrong_values(
    tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ExportOptions(precision="bf16")
    report = export_task(tiny_pack, "first", tmp_path / "m.onnx", options)
    model = onnx.load(report.files[0])
    model.graph.node[0].attribute[0].i = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "types.onnx")
    probes = {"first": tiny_pack.load_task("first").probe_logits}
    with pytest.raises(Exception, match=r"types\.onnx: not valid in bf16"):
        check.check_export(tmp_path / "types.onnx", tiny_pack, probes, options.target(tiny_pack), options)
    wrong = {"first": probes["first"] * np.float32(1.2)}
    with pytest.raises(CheckFailed):
        check.check_export(report.files[0], tiny_pack, wrong, options.target(tiny_pack), options)


def test_a_tolerance_of_ones_own(tiny_pack: Pack, tmp_path: Path) -> None:
    strict = ExportOptions(precision="bf16", rtol=1e-6)
    with pytest.raises(CheckFailed, match="1e-06 of their scale"):
        export_task(tiny_pack, "first", tmp_path / "m.onnx", strict)
    lenient = ExportOptions(precision="bf16", rtol=1e-6, atol=10.0)
    assert export_task(tiny_pack, "first", tmp_path / "m.onnx", lenient).difference is not None
