"""The Triton repository: what is written, that Triton's own parser takes it, and how versions follow each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export import check
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack
from packnet_deploy.runners.comparison import Difference
from packnet_deploy.triton import MAX_BATCH, config_text, export_triton

DENSE = ExportOptions()


def parsed(text: str) -> Any:
    """The config in tritonclient's own message."""
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient (extra: triton)")
    from google.protobuf import text_format

    return text_format.Parse(text, config.ModelConfig())


def test_the_repository(tiny_pack: Pack, tmp_path: Path) -> None:
    for task in ("first", "second"):
        report = export_triton(tiny_pack, task, tmp_path / "models", DENSE)
        assert report.files == (tmp_path / "models" / task / "1/model.onnx",)
        assert report.difference is not None
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert [file for file in files if file.startswith("models")] == [
        f"models/{task}/{file}"
        for task in ("first", "second")
        for file in ("1/model.onnx", "config.pbtxt", "labels.txt")
    ]
    assert (tmp_path / "models/second/labels.txt").read_text().splitlines() == [f"second {i}" for i in range(4)]


@pytest.mark.parametrize("batch", ["dynamic", "3"])
def test_tritons_parser_and_the_model_agree(tiny_pack: Pack, tmp_path: Path, batch: str) -> None:
    report = export_triton(tiny_pack, "first", tmp_path / "models", ExportOptions(batch=batch))
    config = parsed((tmp_path / "models/first/config.pbtxt").read_text())
    assert (config.name, config.backend) == ("first", "onnxruntime")
    graph = onnx.load(report.files[0]).graph
    fixed = batch != "dynamic"
    assert config.max_batch_size == (0 if fixed else MAX_BATCH)
    assert config.HasField("dynamic_batching") is not fixed
    for declared, value in ((config.input, graph.input), (config.output, graph.output)):
        assert [item.name for item in declared] == [item.name for item in value]
        assert [item.data_type for item in declared] == [config.input[0].data_type]
        sizes = [size.dim_value for size in value[0].type.tensor_type.shape.dim]
        assert list(declared[0].dims) == (sizes if fixed else sizes[1:])
    assert config.output[0].label_filename == "labels.txt"
    assert config.version_policy.latest.num_versions == 1
    assert [warm.batch_size for warm in config.model_warmup] == ([1] if fixed else [1, MAX_BATCH])
    assert all(list(warm.inputs["images"].dims) == list(config.input[0].dims) for warm in config.model_warmup)


def test_the_text_itself() -> None:
    """For those without tritonclient: exactly what was parsed above."""
    assert config_text("birds", (3, 224, 224), 200, None) == (
        'name: "birds"\n'
        'backend: "onnxruntime"\n'
        "max_batch_size: 32\n"
        'input [ { name: "images" data_type: TYPE_FP32 dims: [3, 224, 224] } ]\n'
        'output [ { name: "logits" data_type: TYPE_FP32 dims: [200] label_filename: "labels.txt" } ]\n'
        "dynamic_batching { max_queue_delay_microseconds: 500 }\n"
        "version_policy { latest { num_versions: 1 } }\n"
        'model_warmup [ { name: "1 at once" batch_size: 1 inputs { key: "images" value '
        "{ data_type: TYPE_FP32 dims: [3, 224, 224] zero_data: true } } } ]\n"
        'model_warmup [ { name: "32 at once" batch_size: 32 inputs { key: "images" value '
        "{ data_type: TYPE_FP32 dims: [3, 224, 224] zero_data: true } } } ]\n"
    )


def test_the_next_export_is_the_next_version(tiny_pack: Pack, tmp_path: Path) -> None:
    export_triton(tiny_pack, "first", tmp_path / "models", DENSE)
    first = (tmp_path / "models/first/1/model.onnx").read_bytes()
    report = export_triton(tiny_pack, "first", tmp_path / "models", ExportOptions(precision="fp16"))
    assert report.files == (tmp_path / "models/first/2/model.onnx",)
    assert (tmp_path / "models/first/1/model.onnx").read_bytes() == first
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["first"]


def test_a_failed_check_leaves_the_repository_as_it_was(
    tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_triton(tiny_pack, "first", tmp_path / "models", DENSE)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(check, "compare", lambda *_: Difference(0.5, 1.0))
    for task in ("first", "second"):
        with pytest.raises(CheckFailed):
            export_triton(tiny_pack, task, tmp_path / "models", DENSE)
    with pytest.raises(CheckFailed):
        export_triton(tiny_pack, "first", tmp_path / "new", DENSE)
    assert sorted(tmp_path.rglob("*")) == before


def test_requests_that_cannot_be_met(tiny_pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one dense or sparse model per task, got 'selector'"):
        export_triton(tiny_pack, "first", tmp_path / "models", ExportOptions(layout="selector"))
    with pytest.raises(EnvironmentFault, match="nowhere: no such folder"):
        export_triton(tiny_pack, "first", tmp_path / "nowhere" / "models", DENSE)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="file: expected a folder, got a file"):
        export_triton(tiny_pack, "first", tmp_path / "file", DENSE)
    (tmp_path / "models/first").mkdir(parents=True)
    with pytest.raises(ArtefactError, match="first: expected a Triton model"):
        export_triton(tiny_pack, "first", tmp_path / "models", DENSE)
    with pytest.raises(UsageError, match="first, second"):
        export_triton(tiny_pack, "third", tmp_path / "models", DENSE)
