"""PyTorch behind the runners' contract: one module, several tasks' weights, and the module left as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.runners.contract import Runner
from packnet_deploy.runners.onnx import OnnxRunner
from packnet_deploy.training.runner import TorchRunner, start_torch

torch = pytest.importorskip("torch", reason="the torch runner needs PyTorch (extra: train)")

TASKS = ("birds", "flowers")
Heads = dict[str, dict[str, np.ndarray]]


def network() -> torch.nn.Sequential:
    """The network of conftest, with a head as wide as no task's, and dropout that eval mode must silence."""
    pool = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*pool, torch.nn.Dropout(0.9), torch.nn.Linear(3, 7))


def test_each_task_runs_on_its_own_weights(heads: Heads, images: np.ndarray, oracle: Callable) -> None:
    with TorchRunner(network(), heads.__getitem__, tasks=TASKS, head="3") as runner:
        assert isinstance(runner, Runner)
        for task in (*TASKS, *TASKS):
            logits = runner.infer(images, task)
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, oracle(images, task), rtol=1e-5, atol=1e-5)


def test_it_answers_as_onnx_runtime_does(heads: Heads, images: np.ndarray, write_model: Callable[..., Path]) -> None:
    runners: tuple[Runner, Runner] = (
        TorchRunner(network(), heads.__getitem__, tasks=TASKS, head="3"),
        OnnxRunner({task: write_model(task) for task in TASKS}),
    )
    with runners[0] as one, runners[1] as other:
        for task in TASKS:
            np.testing.assert_allclose(one.infer(images, task), other.infer(images, task), rtol=1e-5, atol=1e-5)


def test_the_module_is_left_as_it_was(heads: Heads, images: np.ndarray) -> None:
    module = network()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with TorchRunner(module, heads.__getitem__, tasks=TASKS, head="3") as runner:
        runner.infer(images, "flowers")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [part.training for part in module] == [True, False, True, True]


def test_normalisation_runs_on_the_tasks_statistics(images: np.ndarray) -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3), *network())
    tensors = {
        "0.weight": np.array([1, 2, 3]),
        "0.bias": np.array([3, 2, 1]),
        "0.running_mean": np.array([0.5, -0.5, 0]),
        "0.running_var": np.array([4, 1, 0.25]),
        "head.weight": np.eye(3),
        "head.bias": np.zeros(3),
    }
    scale = tensors["0.weight"] / np.sqrt(tensors["0.running_var"] + module[0].eps)
    with TorchRunner(module, lambda task: tensors, tasks=["birds"], head="4") as runner:
        logits = runner.infer(images, "birds")
    expected = (images.mean(axis=(2, 3)) - tensors["0.running_mean"]) * scale + tensors["0.bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_weights_are_loaded_only_when_the_task_changes(heads: Heads, images: np.ndarray) -> None:
    loaded = []

    def load(task: str) -> Mapping[str, np.ndarray]:
        loaded.append(task)
        return heads[task]

    with TorchRunner(network(), load, tasks=TASKS, head="3") as runner:
        for task in ("birds", "birds", "flowers", "birds"):
            runner.infer(images, task)
    assert loaded == ["birds", "flowers", "birds"]


def test_missing_tensors_are_named_each_time(heads: Heads, images: np.ndarray) -> None:
    del heads["birds"]["head.bias"]
    with TorchRunner(network(), heads.__getitem__, tasks=TASKS, head="3") as runner:
        runner.infer(images, "flowers")
        for _ in range(2):  # the second request must not meet the tensors of flowers
            with pytest.raises(ArtefactError, match=r"'birds'.*missing: 3\.bias; unknown: none"):
                runner.infer(images, "birds")
        runner.infer(images, "flowers")


def test_tensors_the_module_does_not_have_are_named(heads: Heads, images: np.ndarray) -> None:
    heads["birds"]["conv1.weight"] = np.zeros(3, np.float32)
    with (
        TorchRunner(network(), heads.__getitem__, tasks=TASKS, head="3") as runner,
        pytest.raises(ArtefactError, match=r"missing: none; unknown: conv1\.weight"),
    ):
        runner.infer(images, "birds")


def test_wrong_requests_are_refused(heads: Heads, images: np.ndarray) -> None:
    runner = TorchRunner(network(), heads.__getitem__, tasks=TASKS, head="3")
    with pytest.raises(RuntimeError, match="with block"):
        runner.infer(images, "birds")
    with runner:
        with pytest.raises(UsageError, match=r"birds, flowers, got 'fish'"):
            runner.infer(images, "fish")
        with pytest.raises(UsageError, match=r"expected float32 \[n, c, h, w\], got float64"):
            runner.infer(images.astype(np.float64), "birds")


def test_setting_a_task_is_what_inference_does_first(heads: Heads) -> None:
    loads: list[str] = []

    def load(task: str) -> dict[str, np.ndarray]:
        loads.append(task)
        return heads[task]

    with TorchRunner(network(), load, tasks=TASKS, head="3") as runner:
        for task in (TASKS[1], TASKS[1], TASKS[0]):
            runner.set_task(task)
        runner.infer(np.zeros((1, 3, 4, 5), np.float32), TASKS[0])
        assert loads == [TASKS[1], TASKS[0]]
        with pytest.raises(UsageError, match="expected one of"):
            runner.set_task("cars")


def test_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (start_torch("auto", 3), start_torch()) == ("cpu", "cpu")
    assert set_to == [3]
    with pytest.raises(EnvironmentFault, match="device cuda: PyTorch finds no GPU here"):
        start_torch("cuda")
    with pytest.raises(UsageError, match="expected one of auto, cpu, cuda"):
        start_torch("tpu")
