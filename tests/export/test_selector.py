"""The selector: every task from one graph, and nothing from a task that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_networks import Network, pack_of, tiny_network

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export import check
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack, create_pack, probe_batch

SELECTOR = ExportOptions(layout="selector")
FOR_TENSORRT = ExportOptions(layout="selector", engine="tensorrt")
CLASSES = {"first": 2, "second": 4, "third": 3}


@pytest.fixture
def pack(tiny: Network, tmp_path: Path) -> Pack:
    return pack_of(tmp_path / "some.pack", tiny, {"first": 0.3, "second": 0.5, "third": 0.6}, classes=CLASSES)


def answer(path: Path, pack: Pack, task: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {"images": probe_batch(pack.input), "task": np.array([task], np.int32)}
    return np.asarray(session.run(["logits"], feeds)[0])


@pytest.mark.parametrize("options", [SELECTOR, FOR_TENSORRT], ids=["onnxruntime", "tensorrt"])
def test_each_task_answers_as_the_pack_says(pack: Pack, tmp_path: Path, options: ExportOptions) -> None:
    report = export_selector(pack, tmp_path / "s.onnx", options)
    assert report.tasks == ("first", "second", "third")
    for index, (task, classes) in enumerate(CLASSES.items(), start=1):
        got = answer(tmp_path / "s.onnx", pack, index)
        expected = pack.load_task(task).probe_logits
        assert got.shape == (4, 4)
        np.testing.assert_allclose(got[:, :classes], expected, atol=1e-5 * np.abs(expected).max())
        assert np.all(got[:, classes:] == -np.inf)
        assert report.differences[task].passes


def test_the_interface(pack: Pack, tmp_path: Path) -> None:
    export_selector(pack, tmp_path / "s.onnx", SELECTOR)
    model = onnx.load(tmp_path / "s.onnx")
    onnx.checker.check_model(model, full_check=True)
    interface = {value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)}
    assert list(interface) == ["images", "task", "logits"]
    assert interface["task"].elem_type == onnx.TensorProto.INT32
    assert [size.dim_value for size in interface["task"].shape.dim] == [1]
    assert [size.dim_param or size.dim_value for size in interface["logits"].shape.dim] == ["batch", 4]
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["tasks"]) == [
        {
            "name": task,
            "classes": [f"{task} {i}" for i in range(count)],
            "preprocessing": pack.task_input(task).to_json(),
        }
        for task, count in CLASSES.items()
    ]
    assert said["packnet.delta_sha256"] == pack.task("third").sha256
    assert said["packnet.layout"] == "selector"


def test_one_byte_per_owner_for_either_engine(pack: Pack, tmp_path: Path) -> None:
    for options, dtype in ((SELECTOR, np.uint8), (FOR_TENSORRT, np.int8)):
        export_selector(pack, tmp_path / "s.onnx", options)
        graph = onnx.load(tmp_path / "s.onnx").graph
        owners = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("/owner")}
        assert {name: array.dtype for name, array in owners.items()} == {
            "a.weight/owner": dtype,
            "b.weight/owner": dtype,
        }
        used = {node.op_type for node in graph.node}
        assert ("DequantizeLinear" in used) is (dtype == np.int8)  # TensorRT compares no uint8 and no int8


def test_masks_lie_beside_the_layers_that_use_them(pack: Pack, tmp_path: Path) -> None:
    """All of them first would keep a second bank in memory at run time."""
    export_selector(pack, tmp_path / "s.onnx", SELECTOR)
    names = [node.output[0] for node in onnx.load(tmp_path / "s.onnx").graph.node]
    assert names.index("n1") < names.index("b.weight/mask")


def test_what_tasks_have_in_common_is_stored_once(pack: Pack, tmp_path: Path) -> None:
    export_selector(pack, tmp_path / "s.onnx", SELECTOR)
    shapes = {t.name: tuple(t.dims) for t in onnx.load(tmp_path / "s.onnx").graph.initializer}
    assert shapes["n1.scale"] == shapes["n1.shift"] == (8, 1, 1)
    assert shapes["head.weight/tasks"] == (3, 4, 40)
    dense = export_task(pack, "second", tmp_path / "d.onnx")
    assert sum(shape[0] for name, shape in shapes.items() if name.endswith("/bank")) == 48
    assert dense.operators["Conv"] == 2


def test_tasks_of_equal_width_need_no_padding(tiny_pack: Pack, tmp_path: Path) -> None:
    report = export_selector(tiny_pack, tmp_path / "s.onnx", SELECTOR)
    assert report.operators["Add"] == 2  # the shifts


NOWHERE = [0, -1, -255, -(1 << 31), 256, 257, 258, 1 << 16, (1 << 31) - 1]


def test_a_task_that_is_not_there_is_an_error_not_an_answer(pack: Pack, tmp_path: Path) -> None:
    export_selector(pack, tmp_path / "s.onnx", SELECTOR)
    for task in (4, *NOWHERE):
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            answer(tmp_path / "s.onnx", pack, task)


def test_nor_does_a_single_task_answer_for_others(tiny: Network, tmp_path: Path) -> None:
    """Though there is nothing to choose from in its graph."""
    pack = pack_of(tmp_path / "one.pack", tiny, {"first": 0.3})
    export_selector(pack, tmp_path / "s.onnx", SELECTOR)
    assert answer(tmp_path / "s.onnx", pack, 1).shape[1] == pack.tasks[0].classes
    for task in (2, *NOWHERE):
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            answer(tmp_path / "s.onnx", pack, task)


def test_255_tasks_fit_the_owner_map(tiny: Network) -> None:
    """Owner 255, minus one, is still apart from free; and the int8 form orders them alike."""
    from packnet_deploy.export.mask_nodes import int8_ranks

    owners = np.arange(256, dtype=np.uint8)  # 0: free
    stored = owners - np.uint8(1)
    for task in (1, 2, 127, 128, 129, 254, 255):
        expected = (owners > 0) & (owners <= task)
        np.testing.assert_array_equal(stored <= task - 1, expected)
        np.testing.assert_array_equal(int8_ranks({"w": stored})["w"] <= task - 129, expected)


def test_the_same_pack_gives_the_same_bytes(pack: Pack, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_selector(pack, tmp_path / name, SELECTOR)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_large_selectors_keep_their_data_beside_them(pack: Pack, tmp_path: Path) -> None:
    report = export_selector(pack, tmp_path / "s.onnx", SELECTOR, max_bytes=5000)
    assert [file.name for file in report.files] == ["s.onnx", "s.onnx.data"]
    assert all(difference.passes for difference in report.differences.values())


def test_failures_change_nothing(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "s.onnx").write_bytes(b"older")
    wrong = pack_of(tmp_path / "wrong.pack", tiny_network(), {"first": 0.5}, wrong_probe=True)
    with pytest.raises(CheckFailed, match="task 'first'"):
        export_selector(wrong, out / "s.onnx", SELECTOR)
    monkeypatch.setattr(check, "run_session", lambda *_: np.zeros((4, 4), np.float32))
    with pytest.raises(CheckFailed, match="-inf for the classes it does not have"):
        export_selector(pack, out / "s.onnx", SELECTOR)
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [("s.onnx", b"older")]


def test_requests_that_cannot_be_met(pack: Pack, tiny: Network, tmp_path: Path) -> None:
    empty = create_pack(
        tmp_path / "empty.pack", pack.backbone, pack.input, tiny.skeleton.SerializeToString(), pack.packable
    )
    with pytest.raises(UsageError, match="no task to export yet"):
        export_selector(empty, tmp_path / "s.onnx", SELECTOR)
    with pytest.raises(UsageError, match=r"got a folder; say .*selector\.onnx"):
        export_selector(pack, tmp_path, SELECTOR)
    with pytest.raises(EnvironmentFault, match="nowhere: no such folder"):
        export_selector(pack, tmp_path / "nowhere" / "s.onnx", SELECTOR)
    with pytest.raises(UsageError, match="expected selector, got 'dense'"):
        export_selector(pack, tmp_path / "s.onnx", ExportOptions())
    with pytest.raises(UsageError, match="dense or sparse, got 'selector'"):
        export_task(pack, "first", tmp_path / "s.onnx", SELECTOR)


def test_a_damaged_pack_is_refused(pack: Pack, tmp_path: Path) -> None:
    delta = pack.file(pack.task("second"))
    content = bytearray(delta.read_bytes())
    content[-1] ^= 1
    delta.write_bytes(content)
    with pytest.raises(ArtefactError, match="sha256 expected"):
        export_selector(pack, tmp_path / "s.onnx", SELECTOR)


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensorrt_rtx_parses_and_builds_it(pack: Pack, tmp_path: Path, precision: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX (extra: rtx)")
    options = ExportOptions(layout="selector", engine="tensorrt", precision=precision, batch="4")
    export_selector(pack, tmp_path / "s.onnx", options)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(tmp_path / "s.onnx")), [parser.get_error(i).desc() for i in range(1)]
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None
