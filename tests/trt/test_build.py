"""Plans really built, by TensorRT-RTX, which needs no GPU for those that are not refitted; and every refusal."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from export_networks import pack_of
from stand_in_plans import CLASSES, growing_pack
from torch_networks import torchvision_network

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.trt import build as building
from packnet_deploy.trt import flavour as flavours
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.flavour import load_flavour
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.network import NoProgress
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Gpu, read_sidecar, sidecar_path

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'packnet-deploy[rtx]'")

pytestmark = pytest.mark.tensorrt
RTX = {"backend": "tensorrt-rtx"}
HEAD = {"head.weight", "head.bias"}
SWITCHED = {"a.weight", "b.weight", "n1.scale", "n1.shift", "n2.scale", "n2.shift"} | HEAD
TASKS = {"first": 0.3, "second": 0.5, "third": 1.0}


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without one; what is built then is not run."""
    monkeypatch.setattr(building, "find_gpu", lambda index=0: None)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("switch", ["none", "bind", "selector"])
def test_a_plan_and_all_that_is_known_of_it(pack: Pack, tmp_path: Path, switch: str, precision: str) -> None:
    path = tmp_path / "birds.plan"
    options = BuildOptions(**RTX, switch=switch, precision=precision, min_batch=2, opt_batch=3, max_batch=5)
    report = build_plan(pack, path, options, "two" if switch == "none" else None)
    sidecar = read_sidecar(path)
    assert sidecar == report.sidecar
    assert sidecar.plan_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar.plan_bytes == path.stat().st_size > 1000
    assert (sidecar.flavour, sidecar.tensorrt) == ("tensorrt-rtx", load_flavour("tensorrt-rtx").version)
    assert (sidecar.gpu, sidecar.switch, sidecar.precision) == (None, switch, precision)
    assert (sidecar.batch.least, sidecar.batch.best, sidecar.batch.most) == (2, 3, 5)
    assert ("7.5" in sidecar.compute_capabilities) == (precision == "fp16")
    assert "8.6" in sidecar.compute_capabilities
    tasks = [entry for entry in pack.tasks if switch != "none" or entry.name == "two"]
    assert [(t.name, t.index, t.classes, t.sha256) for t in sidecar.tasks] == [
        (t.name, t.index, t.classes, t.sha256) for t in tasks
    ]
    assert sidecar.classes == max(CLASSES[task.name] for task in tasks)
    assert {w.name for w in sidecar.weights} == (SWITCHED if switch == "bind" else set())
    assert not sidecar.sparse_weights
    assert (report.differences, "not run" in report.notes[0]) == ({}, True)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("switch", ["none", "bind", "selector"])
def test_a_plan_of_one_batch_size(pack: Pack, tmp_path: Path, switch: str) -> None:
    options = BuildOptions(**RTX, switch=switch, precision="fp16", max_batch=1)
    report = build_plan(pack, tmp_path / "x.plan", options, "two" if switch == "none" else None)
    batch = report.sidecar.batch
    assert (batch.least, batch.best, batch.most) == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("name", "head"), [("squeezenet1_1", "classifier.1"), ("resnet50", "fc")])
def test_well_known_networks_are_built(name: str, head: str, tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "net.pack", torchvision_network(name, head, 64), TASKS, classes={"second": 20})
    sizes = {}
    for switch, precision in (("none", "fp32"), ("bind", "fp32"), ("bind", "fp16"), ("selector", "fp32")):
        options = BuildOptions(**RTX, switch=switch, precision=precision, compute_capability=("8.6",))
        report = build_plan(pack, tmp_path / "net.plan", options, "second" if switch == "none" else None)
        sizes[switch, precision] = report.sidecar.plan_bytes
    assert sizes["bind", "fp32"] < sizes["none", "fp32"] < sizes["selector", "fp32"]  # no weights; one task's; all


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_filters_that_lie_as_kernels_read_them_are_not_laid_out_anew(tmp_path: Path, precision: str) -> None:
    """TensorRT-RTX's plans name the kernels that it has written itself: those that move filters are gone."""
    pack = pack_of(tmp_path / "net.pack", torchvision_network("squeezenet1_1", "classifier.1", 64, narrow=True), TASKS)
    kernels = {}
    for channels_last in (False, True):
        options = BuildOptions(**RTX, switch="bind", precision=precision, compute_capability=("8.6",))
        report = build_plan(pack, tmp_path / "net.plan", replace(options, channels_last=channels_last))
        kernels[channels_last] = set(re.findall(rb"__myl_[A-Za-z]+_0x[0-9a-f]+", report.plan.read_bytes()))
    assert sum(b"Move" in name for name in kernels[False]) > 5
    assert sum(b"Move" in name for name in kernels[True]) <= 1
    assert len(kernels[True]) < len(kernels[False]) / 2
    with pytest.raises(UsageError, match="channels last: TensorRT lays weights out itself with switch selector"):
        BuildOptions(switch="selector", channels_last=True)


def test_a_weight_that_tensorrt_does_not_know_is_named(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = engine_graph(pack, BuildOptions(switch="refit"))
    odd = replace(graph, weights=(*graph.weights, replace(graph.weights[0], name="c.weight")))
    monkeypatch.setattr(building, "engine_graph", lambda *_: odd)
    monkeypatch.setattr(building, "make_current", lambda index: None)
    monkeypatch.setattr(building, "find_gpu", lambda index=0: Gpu("Some", "8.6", "13.0", 1 << 33))
    with pytest.raises(ArtefactError, match=r"weight 'c\.weight': tensorrt-rtx .* cannot refit it \(1 of 9\)"):
        build_plan(pack, pack.path.parent / "x.plan", BuildOptions(**RTX))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_a_refittable_engine_is_refused_and_nothing_is_lost(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "birds.plan"
    build_plan(pack, path, BuildOptions(**RTX, switch="bind"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(EnvironmentFault, match="a GPU is needed to build refittable engines") as refused:
        build_plan(pack, path, BuildOptions(**RTX, switch="refit"))
    assert "--switch bind" in str(refused.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.usefixtures("no_gpu")
def test_sigint_stops_a_build_in_order(pack: Pack, tmp_path: Path) -> None:
    class Impatient(NoProgress):
        def step(self, name: str, done: int) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_plan(pack, tmp_path / "x.plan", BuildOptions(**RTX, switch="bind"), progress=Impatient())
    assert [file.name for file in tmp_path.iterdir()] == [pack.path.name]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("no_gpu")
def test_tensorrts_own_words_are_quoted(pack: Pack, tmp_path: Path) -> None:
    options = BuildOptions(**RTX, switch="bind", precision="bf16", compute_capability=("7.5",))
    with pytest.raises(EnvironmentFault, match=r"cannot build the engine here: .*sm75"):
        build_plan(pack, tmp_path / "x.plan", options)
    assert [file.name for file in tmp_path.iterdir()] == [pack.path.name]


@pytest.mark.usefixtures("no_gpu")
def test_refusals(pack: Pack, tmp_path: Path) -> None:
    bind, none = BuildOptions(**RTX, switch="bind"), BuildOptions(**RTX, switch="none")
    for error, match, path, options, task in (
        (UsageError, "--task: expected one with --switch none", tmp_path / "x", none, None),
        (UsageError, "--task: expected one with --switch none", tmp_path / "x", bind, "one"),
        (UsageError, "expected a file name, got a folder", tmp_path, bind, None),
        (EnvironmentFault, "no such folder", tmp_path / "a/b", bind, None),
        (UsageError, "no layer can be sparse: of 2 layers", tmp_path / "x", replace(none, sparsity="require"), "one"),
        (EnvironmentFault, "builds for 7.5, 8.0", tmp_path / "x", replace(bind, compute_capability=("9.0",)), None),
        (EnvironmentFault, "cannot be read", tmp_path / "x", replace(bind, config=tmp_path / "no.toml"), None),
        (UsageError, "tensorrt-rtx times no kernels", tmp_path / "x", replace(bind, timing_cache=tmp_path / "t"), None),
    ):
        with pytest.raises(error, match=match):
            build_plan(pack, path, options, task)
    assert [file.name for file in tmp_path.iterdir()] == [pack.path.name]


def test_a_gpu_that_tensorrt_rtx_does_not_know(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "make_current", lambda index: None)
    monkeypatch.setattr(building, "find_gpu", lambda index=0: Gpu("H200", "9.0", "13.0", 1 << 37))
    with pytest.raises(EnvironmentFault, match=r"compute capability 9\.0: tensorrt-rtx .* builds for 7\.5.*tensorrt"):
        build_plan(pack, tmp_path / "x.plan", BuildOptions(**RTX, switch="bind"))
    with pytest.raises(EnvironmentFault, match="cannot build the engine here"):  # it is tried, and this is no H200
        build_plan(pack, tmp_path / "x.plan", BuildOptions(**RTX))
    other = BuildOptions(**RTX, compute_capability=("8.6",))
    with pytest.raises(UsageError, match="on and for the GPU here"):
        build_plan(pack, tmp_path / "x.plan", other)
    # for another machine: built, and not run here
    report = build_plan(pack, tmp_path / "x.plan", replace(other, switch="bind"))
    assert (report.sidecar.gpu is not None, report.differences) == (True, {})
    assert sidecar_path(tmp_path / "x.plan").exists()


def test_auto_takes_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"tensorrt_rtx"}
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: name if name in found else None)
    assert load_flavour("auto").name == "tensorrt-rtx"
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open\\nshared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    found.add("tensorrt")
    with pytest.raises(EnvironmentFault, match=r"^tensorrt: it is installed but cannot be loaded \(libnvinfer.*file\)"):
        load_flavour("auto")
    found.clear()
    with pytest.raises(EnvironmentFault, match=r"pip install 'packnet-deploy\[rtx\]'"):
        load_flavour("auto")
    with pytest.raises(EnvironmentFault, match=r"pip install 'packnet-deploy\[tensorrt\]'"):
        load_flavour("tensorrt")
    with pytest.raises(UsageError, match="expected one of"):
        load_flavour("tensorflow")
