"""ONNX Runtime behind the runners' contract: right logits, and a clear word about everything that is not right."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.runners.contract import Runner
from packnet_deploy.runners.exported import model_files
from packnet_deploy.runners.onnx import OnnxRunner, start_runtime

WriteModel = Callable[..., Path]
SPEC = InputSpec(shape=(3, 4, 5), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize=4)


@pytest.fixture
def models(write_model: WriteModel) -> dict[str, Path]:
    return {task: write_model(task) for task in ("flowers", "birds")}


def test_each_task_has_its_own_logits(models: dict[str, Path], images: np.ndarray, oracle: Callable) -> None:
    with OnnxRunner(models, threads=1) as runner:
        assert isinstance(runner, Runner)
        assert runner.tasks == ("flowers", "birds")
        for task in (*runner.tasks, *runner.tasks):
            logits = runner.infer(images, task)
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, oracle(images, task), rtol=1e-5, atol=1e-5)


def test_any_number_of_images_is_taken(models: dict[str, Path], images: np.ndarray) -> None:
    with OnnxRunner(models) as runner:
        assert runner.input_shape("birds") == (None, 3, 4, 5)
        assert [len(runner.infer(images[:count], "birds")) for count in (1, 2, 6)] == [1, 2, 6]


def test_a_batch_that_is_held_gives_the_same_logits_again_and_again(
    models: dict[str, Path], images: np.ndarray
) -> None:
    """Here on the CPU; on a GPU, images and logits stay there."""
    with OnnxRunner(models) as runner:
        run = runner.hold(images, "birds")
        for _ in range(2):
            (logits,) = run().copy_outputs_to_cpu()
            np.testing.assert_array_equal(logits, runner.infer(images, "birds"))


def test_an_unknown_task_lists_the_known_ones(models: dict[str, Path], images: np.ndarray) -> None:
    with OnnxRunner(models) as runner, pytest.raises(UsageError, match=r"flowers, birds, got 'fish'"):
        runner.infer(images, "fish")


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (np.zeros((2, 3, 4, 5), np.float64), r"float64 \[2, 3, 4, 5\]"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"uint8 \[2, 3, 4, 5\]"),
        (np.zeros((2, 4, 5, 3), np.float32), r"float32 \[2, 4, 5, 3\]"),
        (np.zeros((3, 4, 5), np.float32), r"float32 \[3, 4, 5\]"),
        (np.zeros((0, 3, 4, 5), np.float32), r"float32 \[0, 3, 4, 5\]"),
    ],
)
def test_images_of_another_kind_are_refused(models: dict[str, Path], wrong: np.ndarray, got: str) -> None:
    expected = r"expected float32 \[n, 3, 4, 5\], got " + got
    with OnnxRunner(models) as runner, pytest.raises(UsageError, match=expected):
        runner.infer(wrong, "birds")


def test_a_fixed_batch_size_is_held_to(write_model: WriteModel, images: np.ndarray) -> None:
    path = write_model("birds", images="float[2, 3, 4, 5] images")
    with OnnxRunner({"birds": path}) as runner:
        assert len(runner.infer(images[:2], "birds")) == 2
        with pytest.raises(UsageError, match=r"expected float32 \[2, 3, 4, 5\], got float32 \[3, 3, 4, 5\]"):
            runner.infer(images[:3], "birds")


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        ({"images": "float[n, 3, 4, 5] x"}, "one input 'images' and an output 'logits', got input x"),
        ({"images": "float[1] y, float[n, 3, 4, 5] images", "logits": "float[n, c] logits"}, "got input y, images"),
        ({"logits": "float[n, c] scores"}, "and output scores"),
        ({"images": "float16[n, 3, 4, 5] images", "logits": "float16[n, c] logits"}, r"got tensor\(float16\)"),
        ({"images": "float[n, 3, 5] images"}, "'images': expected tensor.float. of rank 4"),
    ],
)
def test_a_graph_with_another_interface_is_refused(
    write_model: WriteModel, interface: dict[str, str], message: str
) -> None:
    path = write_model("birds", **interface)
    with pytest.raises(ArtefactError, match=message) as caught, OnnxRunner({"birds": path}):
        pass
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_run_are_named(tmp_path: Path, models: dict[str, Path]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ArtefactError, match=r"broken\.onnx"), OnnxRunner({**models, "fish": broken}):
        pass
    with pytest.raises(EnvironmentFault, match=r"gone\.onnx: expected"), OnnxRunner({"fish": tmp_path / "gone.onnx"}):
        pass
    with pytest.raises(UsageError, match="at least one"):
        OnnxRunner({})


def test_nothing_is_held_outside_the_with_block(models: dict[str, Path], images: np.ndarray) -> None:
    runner = OnnxRunner(models)
    with pytest.raises(RuntimeError, match="with block"):
        runner.infer(images, "birds")
    with runner:
        runner.infer(images, "birds")
    assert runner.providers == {}
    runner.close()
    with pytest.raises(RuntimeError, match="with block"):
        runner.infer(images, "birds")


def test_a_failed_entry_holds_nothing(tmp_path: Path, models: dict[str, Path]) -> None:
    runner = OnnxRunner({**models, "fish": tmp_path / "gone.onnx"})
    with pytest.raises(EnvironmentFault), runner:
        pass
    assert runner.providers == {}


def test_classes_and_preprocessing_come_from_the_model(write_model: WriteModel) -> None:
    metadata = {"classes": json.dumps(["wren", "Zaunkönig"]), "preprocessing": json.dumps(SPEC.to_json())}
    models = {"birds": write_model("birds", metadata=metadata), "flowers": write_model("flowers")}
    with OnnxRunner(models) as runner:
        assert runner.classes("birds") == ("wren", "Zaunkönig")
        assert runner.preprocessing("birds") == SPEC
        assert runner.metadata("birds") == metadata
        assert runner.classes("flowers") is None
        assert runner.preprocessing("flowers") is None


@pytest.mark.parametrize("classes", ["wren, robin", '{"0": "wren"}', "[1, 2]"])
def test_malformed_metadata_is_refused(write_model: WriteModel, classes: str) -> None:
    path = write_model("birds", metadata={"classes": classes, "preprocessing": '{"shape": 3}'})
    with OnnxRunner({"birds": path}) as runner:
        with pytest.raises(ArtefactError, match=r"birds\.onnx: metadata 'classes': expected"):
            runner.classes("birds")
        with pytest.raises(ArtefactError, match=r"birds\.onnx: metadata 'preprocessing'"):
            runner.preprocessing("birds")


def test_the_provider_in_use_is_stated(models: dict[str, Path]) -> None:
    with OnnxRunner(models) as runner:
        assert runner.providers == dict.fromkeys(models, "CPUExecutionProvider")
        assert runner.notes == []


def test_falling_back_to_the_cpu_is_said_aloud(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with caplog.at_level(logging.WARNING), OnnxRunner(models, device="auto") as runner:
        assert runner.providers["birds"] == "CPUExecutionProvider"
    assert len(runner.notes) == 1
    assert "on the CPU: all tasks" in runner.notes[0]
    assert runner.notes[0] in caplog.text


def test_cuda_that_cannot_be_had_is_refused(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentFault, match="device cuda"), OnnxRunner(models, device="cuda"):
        pass
    with pytest.raises(EnvironmentFault, match="device cuda"):
        start_runtime("cuda")


def test_the_files_of_a_model_include_its_external_data(write_model: WriteModel, tmp_path: Path) -> None:
    alone, split = write_model("birds"), write_model("flowers", external=True)
    assert model_files(alone) == (alone,)
    assert model_files(split) == (split, tmp_path / "flowers.data")  # once, though two tensors lie in it
    (tmp_path / "flowers.data").unlink()
    with pytest.raises(ArtefactError, match=r"flowers\.onnx: .*'flowers\.data'"):
        model_files(split)


def test_a_model_that_may_not_be_read(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # file modes would not stop a test that runs as root
    with pytest.raises(EnvironmentFault, match=r"birds\.onnx: cannot be read \(Permission denied\)"):
        model_files(models["birds"])


def test_files_of_something_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtefactError, match=r"text\.onnx: expected an ONNX file"):
        model_files(tmp_path / "text.onnx")
    with pytest.raises(EnvironmentFault, match=r"gone\.onnx: expected an ONNX file, got no file"):
        model_files(tmp_path / "gone.onnx")
