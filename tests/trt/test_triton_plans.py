"""Plans in a Triton repository: what is written, that Triton's own parser takes it, and which plans are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stand_in_plans import CLASSES, first_tasks, growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack
from packnet_deploy.triton import export_triton, export_triton_plan
from packnet_deploy.trt.sidecar import Batch, read_sidecar, write_sidecar


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return growing_pack(tmp_path_factory.mktemp("pack") / "tiny.pack")


@pytest.fixture
def plan(pack: Pack, tmp_path: Path) -> Path:
    """Of the second task."""
    write_plan(tmp_path / "two.plan", pack, "none", task="two", batch=Batch(1, 2, 6))
    return tmp_path / "two.plan"


def parsed(text: str) -> Any:
    """The config in tritonclient's own message."""
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient (extra: triton)")
    from google.protobuf import text_format

    return text_format.Parse(text, config.ModelConfig())


def test_the_model(plan: Path, pack: Pack, tmp_path: Path) -> None:
    done = export_triton_plan(plan, pack, tmp_path / "models")
    model = tmp_path / "models" / "two"
    assert (done.task, done.file, done.bytes) == ("two", model / "1" / "model.plan", plan.stat().st_size)
    assert (done.tensorrt, done.compute_capabilities) == ("10.13.3.9", ("8.6",))
    files = sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file())
    assert files == ["1/model.plan", "config.pbtxt", "labels.txt"]
    assert done.file.read_bytes() == plan.read_bytes()
    assert (model / "labels.txt").read_text().splitlines() == list(pack.header("two").classes)


def test_tritons_parser_and_the_sidecar_agree(plan: Path, pack: Pack, tmp_path: Path) -> None:
    export_triton_plan(plan, pack, tmp_path / "models")
    config = parsed((tmp_path / "models/two/config.pbtxt").read_text())
    sidecar = read_sidecar(plan)
    assert (config.name, config.platform, config.backend) == ("two", "tensorrt_plan", "")
    assert config.max_batch_size == sidecar.batch.most == 6
    assert list(config.input[0].dims) == list(sidecar.input.shape)
    assert list(config.output[0].dims) == [CLASSES["two"]]
    assert [warm.batch_size for warm in config.model_warmup] == [1, 6]


def test_the_text_itself(plan: Path, pack: Pack, tmp_path: Path) -> None:
    """For those without tritonclient."""
    export_triton_plan(plan, pack, tmp_path / "models")
    lines = (tmp_path / "models/two/config.pbtxt").read_text().splitlines()
    assert lines[:3] == ['name: "two"', 'platform: "tensorrt_plan"', "max_batch_size: 6"]


def test_one_image_at_a_time_is_warmed_up_once(pack: Pack, tmp_path: Path) -> None:
    write_plan(tmp_path / "one.plan", pack, "none", task="one", batch=Batch(1, 1, 1))
    export_triton_plan(tmp_path / "one.plan", pack, tmp_path / "models")
    text = (tmp_path / "models/one/config.pbtxt").read_text()
    assert text.count("model_warmup") == 1


def test_the_next_plan_is_the_next_version(plan: Path, pack: Pack, tmp_path: Path) -> None:
    export_triton(pack, "two", tmp_path / "models", ExportOptions())
    assert export_triton_plan(plan, pack, tmp_path / "models").file == tmp_path / "models/two/2/model.plan"
    assert (tmp_path / "models/two/1/model.onnx").is_file()
    assert "tensorrt_plan" in (tmp_path / "models/two/config.pbtxt").read_text()


@pytest.mark.parametrize("switch", ["refit", "bind", "selector"])
def test_plans_that_must_be_switched_are_refused(pack: Pack, tmp_path: Path, switch: str) -> None:
    write_plan(tmp_path / "all.plan", pack, switch)
    with pytest.raises(UsageError, match=f"switch {switch}, which Triton cannot switch; build one for each task"):
        export_triton_plan(tmp_path / "all.plan", pack, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"flavour": "tensorrt-rtx"}, "expected a plan of tensorrt, which Triton's backend loads, got one of tensorrt"),
        ({"batch": Batch(2, 2, 4)}, "takes 1 image.*got at least 2; build it with --min-batch 1"),
    ],
)
def test_plans_that_triton_cannot_serve_are_refused(
    plan: Path, pack: Pack, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    write_sidecar(replace(read_sidecar(plan), **change), plan)
    with pytest.raises(UsageError, match=says):
        export_triton_plan(plan, pack, tmp_path / "models")


def test_what_does_not_fit_together_leaves_nothing(plan: Path, pack: Pack, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ArtefactError, match=r"two\.plan: task 'two': expected the pack with sha256 \w+ for it, got none"
    ):
        export_triton_plan(plan, first_tasks(pack, 1), tmp_path / "models")
    with pytest.raises(EnvironmentFault, match="no such folder"):
        export_triton_plan(plan, pack, tmp_path / "nowhere" / "models")
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtefactError, match=r"two\.plan: sha256: expected"):
        export_triton_plan(plan, pack, tmp_path / "models")
    assert sorted(tmp_path.rglob("*")) == before
