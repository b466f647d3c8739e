"""TensorRT behind the runners' contract, on the stand-ins of tests/trt/stand_in.py: not on the real thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.contract import Runner
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.runner import TensorrtRunner


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "tiny.pack")


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[StandInDevice]:
    """Every device that was opened, the latest last."""
    opened: list[StandInDevice] = []

    def open_device(gpu: object, index: int) -> StandInDevice:
        return opened[-1]

    def flavour(name: str) -> object:
        opened.append(StandInDevice())
        return StandInTensorRT(opened[-1], "bind").flavour

    monkeypatch.setattr(engine_module, "load_flavour", flavour)
    monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engine_module, "Device", open_device)
    return opened


def test_one_plan_for_every_task(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    write_plan(tmp_path / "tiny.plan", pack, "bind")
    images = probe_batch(pack.input)
    with TensorrtRunner(tmp_path / "tiny.plan", pack.path) as runner:
        assert isinstance(runner, Runner)
        assert runner.tasks == ("one", "two", "three")
        for task in ("two", "one", "one", "three"):
            np.testing.assert_allclose(
                runner.infer(images, task), pack.load_task(task).probe_logits, rtol=1e-4, atol=1e-4
            )
        switches = [entry for entry in devices[0].log if "owners" in entry or "write" in entry]
        assert switches == ["write 2", "clear owners 1", "write 2"]  # the same task again is no switch
    assert devices[0].closed


def test_a_plan_for_each_task(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    plans = {task: tmp_path / f"{task}.plan" for task in ("two", "one")}
    for task, path in plans.items():
        write_plan(path, pack, "none", task=task)
    images = probe_batch(pack.input)
    with TensorrtRunner(plans, pack.path) as runner:
        assert runner.tasks == ("two", "one")
        for task in ("one", "two", "one"):
            np.testing.assert_allclose(
                runner.infer(images, task), pack.load_task(task).probe_logits, rtol=1e-4, atol=1e-4
            )
    assert len(devices) == 2
    assert all(device.closed for device in devices)
    with pytest.raises(ArtefactError, match=r"two\.plan: expected a plan of task 'one', got one of two"):
        TensorrtRunner({"one": plans["two"]}, pack.path)


def test_what_the_contract_refuses(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    write_plan(tmp_path / "tiny.plan", pack, "bind")
    images = probe_batch(pack.input)
    runner = TensorrtRunner(tmp_path / "tiny.plan", pack.path)
    with pytest.raises(RuntimeError, match="with block"):
        runner.infer(images, "one")
    with runner:
        with pytest.raises(UsageError, match="expected one of one, two, three, got 'four'"):
            runner.infer(images, "four")
        with pytest.raises(UsageError, match=r"expected float32 \[n, 3, 5, 6\], got float32"):
            runner.infer(images[:, :, :4], "one")
    with pytest.raises(RuntimeError, match="with block"):
        runner.infer(images, "one")
    with pytest.raises(UsageError, match="at least one task's"):
        TensorrtRunner({}, pack.path)


def test_one_plan_that_fails_lets_go_of_the_others(pack: Pack, tmp_path: Path, devices: list[StandInDevice]) -> None:
    plans = {task: tmp_path / f"{task}.plan" for task in ("one", "two")}
    for task, path in plans.items():
        write_plan(path, pack, "none", task=task)
    plans["two"].write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match=r"two\.plan"), TensorrtRunner(plans, pack.path):
        pass
    assert devices[0].closed
