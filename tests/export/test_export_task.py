"""``export_task`` end to end on packs that need no torch: the file, its metadata, and every way to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_networks import Network, pack_of, tiny_network
from onnx import numpy_helper

from packnet_deploy import __version__
from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export import write
from packnet_deploy.export.api import export_task
from packnet_deploy.export.bind import bind_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack, probe_batch

SPARSE = ExportOptions(layout="sparse")


def logits(path: Path, spec_images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": spec_images})[0])


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_the_model_answers_as_the_pack_says(tiny_pack: Pack, tmp_path: Path, layout: str) -> None:
    report = export_task(tiny_pack, "second", tmp_path / "m.onnx", ExportOptions(layout=layout))
    expected = tiny_pack.load_task("second").probe_logits
    got = logits(tmp_path / "m.onnx", probe_batch(tiny_pack.input))
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    assert report.difference is not None
    assert report.difference.passes
    assert report.files == (tmp_path / "m.onnx",)
    assert report.bytes == (tmp_path / "m.onnx").stat().st_size


def test_the_graph_is_what_one_would_write_by_hand(tiny_pack: Pack, tmp_path: Path) -> None:
    report = export_task(tiny_pack, "first", tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts == {"Conv": 2, "Relu": 2, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1} == report.operators
    assert [value.name for value in model.graph.input] == ["images"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    (output,) = model.graph.output
    assert output.name == "logits"
    assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == ["batch", 4]
    names = {tensor.name for tensor in model.graph.initializer}
    assert names == {"a.weight", "a.bias", "b.weight", "b.bias", "head.weight", "head.bias"}


def test_one_image_runs_as_well(tiny_pack: Pack, tmp_path: Path) -> None:
    export_task(tiny_pack, "first", tmp_path / "m.onnx")
    images = probe_batch(tiny_pack.input)
    path = tmp_path / "m.onnx"
    np.testing.assert_allclose(logits(path, images[:1]), logits(path, images)[:1], rtol=1e-5, atol=1e-6)


def test_the_metadata_tells_how_to_use_the_model(tiny_pack: Pack, tmp_path: Path) -> None:
    export_task(tiny_pack, "second", tmp_path / "m.onnx", SPARSE)
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.producer_name, model.producer_version) == ("packnet-deploy", __version__)
    props = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(props.pop("classes")) == [f"second {i}" for i in range(4)]
    assert json.loads(props.pop("preprocessing")) == tiny_pack.input.to_json()
    assert props == {
        "task": "second",
        "packnet.layout": "sparse",
        "packnet.precision": "fp32",
        "packnet.delta_sha256": tiny_pack.task("second").sha256,
        "packnet.graph_sha256": sha256(tiny_pack.graph_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_the_same_pack_gives_the_same_bytes(tiny_pack: Pack, tmp_path: Path, layout: str) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_task(tiny_pack, "second", tmp_path / name, ExportOptions(layout=layout))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_sparse_is_smaller_and_says_by_how_much(tiny_pack: Pack, tmp_path: Path) -> None:
    dense = export_task(tiny_pack, "second", tmp_path / "d.onnx")
    sparse = export_task(tiny_pack, "second", tmp_path / "s.onnx", SPARSE)
    assert sparse.sparse_tensors == 2
    assert sparse.bytes < dense.bytes
    assert "2 tensors sparse" in sparse.note
    assert dense.note == ""
    stored = onnx.load(tmp_path / "s.onnx").graph
    assert {tensor.values.name for tensor in stored.sparse_initializer} == {"a.weight", "b.weight"}


def test_sparse_that_saves_nothing_says_so(tiny: Network, tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "full.pack", tiny, {"full": 1.0})
    report = export_task(pack, "full", tmp_path / "s.onnx", SPARSE)
    assert report.sparse_tensors == 0
    assert "saves nothing" in report.note


def test_large_models_keep_their_data_beside_them(tiny_pack: Pack, tmp_path: Path) -> None:
    whole = export_task(tiny_pack, "first", tmp_path / "whole.onnx")
    report = export_task(tiny_pack, "first", tmp_path / "m.onnx", max_bytes=whole.bytes - 1)
    assert report.files == (tmp_path / "m.onnx", tmp_path / "m.onnx.data")
    assert report.bytes == sum(file.stat().st_size for file in report.files)
    assert report.difference is not None
    assert report.difference.passes
    images = probe_batch(tiny_pack.input)
    np.testing.assert_array_equal(logits(tmp_path / "m.onnx", images), logits(tmp_path / "whole.onnx", images))
    one_file = export_task(tiny_pack, "first", tmp_path / "n.onnx", max_bytes=whole.bytes)
    assert len(one_file.files) == 1


def test_unfoldable_normalisation_keeps_its_node(tmp_path: Path) -> None:
    network = tiny_network()
    nodes = network.skeleton.graph.node
    nodes[1].input[0], nodes[2].input[0], nodes[2].output[0] = "r0", "a", "r0"  # relu before normalisation
    nodes[3].input[0] = "n1"
    relu = onnx.NodeProto()
    relu.CopyFrom(nodes[2])
    nodes.remove(nodes[2])
    nodes.insert(1, relu)
    pack = pack_of(tmp_path / "some.pack", network, {"only": 0.5})
    report = export_task(pack, "only", tmp_path / "m.onnx")
    assert report.operators["BatchNormalization"] == 1
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    np.testing.assert_array_equal(stored["n1.running_mean"], network.tensors["n1.running_mean"])


# Every way to fail leaves the target's folder as it was.


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file that exists already, alone in its folder."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "m.onnx"
    path.write_bytes(b"older")
    return path


def is_untouched(target: Path) -> bool:
    return [file.name for file in target.parent.iterdir()] == [target.name] and target.read_bytes() == b"older"


def test_wrong_logits_fail_and_change_nothing(tiny: Network, tmp_path: Path, target: Path) -> None:
    pack = pack_of(tmp_path / "wrong.pack", tiny, {"only": 0.5}, wrong_probe=True)
    with pytest.raises(CheckFailed, match=r"task 'only': .* differ by up to .* allowed is"):
        export_task(pack, "only", target)
    assert is_untouched(target)
    export_task(pack, "only", target, ExportOptions(verify=False))
    assert not is_untouched(target)


@pytest.mark.parametrize("crash", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_changes_nothing(
    tiny_pack: Pack, target: Path, monkeypatch: pytest.MonkeyPatch, crash: BaseException
) -> None:
    def fail(_: int) -> None:
        raise crash

    monkeypatch.setattr(write.os, "fsync", fail)
    with pytest.raises(type(crash)):
        export_task(tiny_pack, "first", target, max_bytes=5000)
    assert is_untouched(target)


def test_a_missing_folder_is_named(tiny_pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="nowhere: no such folder"):
        export_task(tiny_pack, "first", tmp_path / "nowhere" / "m.onnx")


def test_a_folder_as_target_is_refused(tiny_pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got a folder; say .*first\.onnx"):
        export_task(tiny_pack, "first", tmp_path)


def test_unknown_tasks_and_layouts_are_refused(tiny_pack: Pack, target: Path) -> None:
    with pytest.raises(UsageError, match="first, second"):
        export_task(tiny_pack, "third", target)
    with pytest.raises(UsageError, match="got 'packed'"):
        export_task(tiny_pack, "first", target, ExportOptions(layout="packed"))
    assert is_untouched(target)


def test_sparse_does_not_go_beyond_one_file(tiny_pack: Pack, target: Path) -> None:
    with pytest.raises(UsageError, match="use --layout dense"):
        export_task(tiny_pack, "second", target, SPARSE, max_bytes=1000)
    assert is_untouched(target)


# Graphs that do not fit the weights, or are not what a pack should hold; the pack's hashes do not help against an
# author who writes them to match.


def damaged(network: Network, tmp_path: Path) -> Pack:
    """The tiny pack with ``network``'s graph in the place of its own, hash included."""
    pack = pack_of(tmp_path / "some.pack", tiny_network(), {"only": 0.5})
    graph = network.skeleton.SerializeToString()
    (pack.path / "graph.onnx").write_bytes(graph)
    return replace(pack, manifest=replace(pack.manifest, graph_sha256=sha256(graph).hexdigest()))


def refused(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, match: str) -> None:
    monkeypatch.setattr("packnet_deploy.pack.chain.check_place", lambda *_: None)
    pack = damaged(network, tmp_path)
    with pytest.raises(ArtefactError, match=match):
        bind_task(pack, "only", pack.load_task("only"), ExportOptions().target(pack), "dense")


def test_a_graph_with_one_input_more_is_refused(tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.skeleton.graph.input.append(onnx.helper.make_tensor_value_info("c.weight", 1, [3]))
    refused(tiny, tmp_path, monkeypatch, r"tensor 'c\.weight': expected in graph and deltas, got it in the graph only")


def test_a_graph_with_one_input_less_is_refused(tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bias,) = (value for value in tiny.skeleton.graph.input if value.name == "b.bias")
    tiny.skeleton.graph.input.remove(bias)
    (layer,) = (node for node in tiny.skeleton.graph.node if "b.bias" in node.input)
    layer.input.remove("b.bias")
    refused(tiny, tmp_path, monkeypatch, r"tensor 'b\.bias': .* got it in the deltas only")


def test_a_graph_with_another_shape_is_refused(tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.skeleton.graph.input[1].type.tensor_type.shape.dim[2].dim_value = 2
    refused(tiny, tmp_path, monkeypatch, r"tensor 'a\.weight': the graph has float32 \[8, 3, 2, 3\], .* \[8, 3, 3, 3\]")


def test_a_graph_with_another_output_is_refused(tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.skeleton.graph.output[0].name = tiny.skeleton.graph.node[-1].output[0] = "scores"
    refused(
        tiny, tmp_path, monkeypatch, r"expected an input 'images' and one output 'logits', got outputs \['scores'\]"
    )


def test_a_graph_with_external_data_is_refused(tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = tiny.skeleton.graph.initializer.add(name="c", data_type=1, dims=[3])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    refused(tiny, tmp_path, monkeypatch, "expected its data in the graph, got external data")


def test_exporting_imports_no_torch(tiny_pack: Pack, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from packnet_deploy.export.api import export_task\n"
        "from packnet_deploy.pack import Pack\n"
        f"export_task(Pack.open({str(tiny_pack.path)!r}), 'first', Path({str(tmp_path / 'm.onnx')!r}))\n"
        "assert not {'onnxscript', 'onnx_ir', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONNOUSERSITE": "1"})
