"""Plans on a real GPU: every task of every way to switch, and what must not happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stand_in_plans import CLASSES, first_tasks, growing_pack

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.export.api import export_task
from packnet_deploy.gpu_report.engines import installed
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.runners.onnx import OnnxRunner
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.check import verify_engine
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import FLAVOURS
from packnet_deploy.trt.options import BuildOptions


@pytest.fixture(params=FLAVOURS)
def backend(request: pytest.FixtureRequest) -> str:
    try:
        names = installed()
    except EnvironmentFault as error:
        pytest.skip(str(error))
    if request.param not in names:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("switch", ["refit", "bind", "selector"])
@pytest.mark.parametrize(("bank", "cuda_graph"), [("device", False), ("host", True)])
def test_every_task(
    pack: Pack, tmp_path: Path, backend: str, switch: str, precision: str, bank: str, cuda_graph: bool
) -> None:
    options = BuildOptions(backend=backend, switch=switch, precision=precision, max_batch=4, verify=False)
    build_plan(pack, tmp_path / "x.plan", options)
    with Engine.load(tmp_path / "x.plan", pack, bank=bank, cuda_graph=cuda_graph) as engine:
        for _ in range(3):  # a graph is captured the second time, and must not outlive a refit
            assert verify_engine(engine, pack, engine.tasks, options.target(pack), tmp_path / "x.plan")


def test_a_plan_of_each_task(pack: Pack, tmp_path: Path, backend: str) -> None:
    for task in CLASSES:
        report = build_plan(pack, tmp_path / "x.plan", BuildOptions(backend=backend, switch="none"), task)
        assert report.differences[task].passes


def test_a_task_trained_later(pack: Pack, tmp_path: Path, backend: str) -> None:
    for switch in ("refit", "bind"):
        build_plan(first_tasks(pack, 2), tmp_path / "x.plan", BuildOptions(backend=backend, switch=switch, classes=4))
        with Engine.load(tmp_path / "x.plan", pack) as engine:
            engine.set_task("three")
            logits = engine.infer(probe_batch(pack.input))
        assert compare(logits, pack.load_task("three").probe_logits).passes


def test_batches_of_every_size(pack: Pack, tmp_path: Path, backend: str) -> None:
    build_plan(pack, tmp_path / "x.plan", BuildOptions(backend=backend, min_batch=2, opt_batch=2, max_batch=3))
    images = np.concatenate([probe_batch(pack.input)] * 2)
    expected = np.concatenate([pack.load_task("two").probe_logits] * 2)
    with Engine.load(tmp_path / "x.plan", pack) as engine:
        engine.set_task("two")
        for count in (1, 2, 3, 4, 7, 8):
            assert compare(engine.infer(images[:count]), expected[:count]).passes, count


def test_a_partial_refit_reloads_the_engine(
    pack: Pack, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_plan(pack, tmp_path / "x.plan", BuildOptions(backend=backend))
    with Engine.load(tmp_path / "x.plan", pack) as engine:
        engine.set_task("one")
        before = engine.infer(probe_batch(pack.input))
        switch = type(engine._switch)

        def fails(self: object, task: str) -> None:
            raise ArtefactError("TensorRT says no")

        with monkeypatch.context() as patch:
            patch.setattr(switch, "to", fails)
            with pytest.raises(ArtefactError, match="says no"):
                engine.set_task("two")
        assert engine.task is None
        engine.set_task("one")
        assert np.array_equal(engine.infer(probe_batch(pack.input)), before)


def test_onnx_runtimes_cuda_provider(pack: Pack, tmp_path: Path) -> None:
    export_task(pack, "one", tmp_path / "one.onnx")
    try:
        with OnnxRunner({"one": tmp_path / "one.onnx"}, "cuda") as runner:
            logits = runner.infer(probe_batch(pack.input), "one")
    except EnvironmentFault as error:
        pytest.skip(str(error))
    # its convolutions may use TF32, which has as many bits as fp16
    assert compare(logits, pack.load_task("one").probe_logits, rtol=1e-2).passes
