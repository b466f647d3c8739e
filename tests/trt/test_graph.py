"""The graphs that TensorRT is given, run in ONNX Runtime: each gives every task's logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_networks import pack_of, tiny_network
from onnx import numpy_helper
from stand_in_plans import CLASSES, growing_pack

from packnet_deploy.errors import UsageError
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.pack import Pack, create_pack, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.runners.session import open_session, run_session
from packnet_deploy.trt.bank import load_engine_bank
from packnet_deploy.trt.graph import FILLER, engine_graph, sparse_layers, why_dense, without_zeros
from packnet_deploy.trt.options import BuildOptions


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


def test_a_plan_of_one_task_is_that_task(pack: Pack) -> None:
    for task, classes in CLASSES.items():
        graph = engine_graph(pack, BuildOptions(switch="none"), task)
        assert (graph.classes, graph.weights) == (classes, ())
        assert [value.name for value in onnx.load_from_string(graph.onnx).graph.input] == ["images"]
        logits = run_session(open_session(graph.onnx), {"images": probe_batch(pack.input)})
        assert compare(logits, pack.load_task(task).probe_logits).passes


@pytest.mark.parametrize("room", [0, 9])
def test_bound_weights_make_one_graph_every_task(pack: Pack, room: int) -> None:
    graph = engine_graph(pack, BuildOptions(switch="bind", classes=room))
    assert graph.classes == max(room, *CLASSES.values())
    session = open_session(graph.onnx)
    assert {value.name for value in session.get_inputs()} == {"images", *(w.name for w in graph.weights)}
    for task in graph.bank.tasks:
        weights = graph.bank.materialise(task)
        assert [(w.name, w.shape) for w in graph.weights] == [(name, a.shape) for name, a in weights.items()]
        logits = run_session(session, {"images": probe_batch(pack.input), **weights})
        assert logits.shape[1] == graph.classes
        assert compare(logits[:, : len(task.classes)], pack.load_task(task.entry.name).probe_logits).passes
        assert not logits[:, len(task.classes) :].any()


def test_a_refittable_graph_has_the_last_task_and_no_zero_where_kernels_must_be_dense(pack: Pack) -> None:
    """No zero in the heads either: a padded one that kept to 2:4 by chance would bind every other to it."""
    graph = engine_graph(pack, BuildOptions(switch="refit"))
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(graph.onnx).graph.initializer}
    last = graph.bank.materialise(graph.bank.tasks[-1])
    assert {w.name for w in graph.weights} == set(last)
    for name, weight in last.items():
        there = weight != 0
        assert np.array_equal(tensors[name][there], weight[there])
        assert (tensors[name][~there] == FILLER).all()
        assert there.all() == name.startswith(("n1.", "n2."))  # or this would show little
    off = engine_graph(pack, BuildOptions(switch="refit", sparsity="off"))
    plain = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(off.onnx).graph.initializer}
    assert all(np.array_equal(plain[name], weight) for name, weight in last.items())


def test_a_layer_that_may_be_sparse_keeps_its_zeros(tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "sparse.pack", tiny_network(), {"one": 0.02, "two": 0.04})
    graph = engine_graph(pack, BuildOptions(switch="refit"))
    assert {layer.name: layer.eligible for layer in graph.sparsity} == {"a.weight": False, "b.weight": True}
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(graph.onnx).graph.initializer}
    assert np.array_equal(tensors["b.weight"], graph.bank.materialise(graph.bank.tasks[-1])["b.weight"])
    assert tensors["a.weight"].all()


def test_the_filler_is_exact_in_every_precision() -> None:
    for precision in ("fp32", "fp16", "bf16"):
        dtype = PRECISIONS[precision].dtype
        filled = without_zeros(np.array([0, 1, -0.0], dtype))
        assert filled.astype(np.float64).tolist() == [FILLER, 1, FILLER]


def test_a_layer_is_eligible_while_all_tasks_together_keep_to_the_pattern(pack: Pack) -> None:
    bank = load_engine_bank(pack, BuildOptions().target(pack))
    ranks = dict(bank.ranks)
    shape = ranks["b.weight"].shape  # 40 x 8 x 1 x 1
    pattern = np.full(shape, 255, np.uint8)
    pattern[:, 0::4], pattern[:, 3::4] = 0, 1  # task 1's and task 2's: two of every four inputs
    ranks["b.weight"] = pattern.copy()
    eligible = {layer.name: layer.eligible for layer in sparse_layers(pack, replace(bank, ranks=ranks), 3)}
    assert eligible == {"a.weight": False, "b.weight": True}  # 3 inputs do not divide by 4
    ranks["b.weight"][7, 1] = 2  # one weight more, task 3's
    for last, expected in ((2, True), (3, False)):
        plan = {layer.name: layer.eligible for layer in sparse_layers(pack, replace(bank, ranks=ranks), last)}
        assert plan["b.weight"] is expected
    assert "of 2 layers, 1 have inputs that do not divide by 4" in why_dense(bank)


def test_grouped_and_untransposed_layers_are_never_eligible(pack: Pack) -> None:
    bank = load_engine_bank(pack, BuildOptions().target(pack))
    ranks = bank.ranks | {"b.weight": np.full(bank.ranks["b.weight"].shape, 255, np.uint8)}
    assert any(layer.eligible for layer in sparse_layers(pack, replace(bank, ranks=ranks), 3))
    (node,) = (node for node in bank.model.graph.node if "b.weight" in node.input)
    node.attribute.append(onnx.helper.make_attribute("group", 2))
    assert not any(layer.eligible for layer in sparse_layers(pack, replace(bank, ranks=ranks), 3))


def test_refusals(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody"):
        engine_graph(pack, BuildOptions(switch="none"), "nobody")
    empty = create_pack(tmp_path / "empty.pack", pack.backbone, pack.input, pack.graph_bytes(), pack.packable)
    with pytest.raises(UsageError, match="no task to build"):
        engine_graph(empty, BuildOptions())
