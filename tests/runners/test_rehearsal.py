"""Graphs from elsewhere in a process of their own: what it dies of, hangs on or runs out of is one line here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hostile_graphs import graphs, plain
from onnx import ModelProto, TensorProto, helper

from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.prepare import jobs_of_models
from packnet_deploy.errors import ArtefactError
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.fresh import Limits
from packnet_deploy.pack import Pack
from packnet_deploy.runners import OnnxRunner, rehearsal, verify_pack
from packnet_deploy.runners.rehearsal import rehearse
from packnet_deploy.runners.sizes import Cost

HOSTILE = dict(graphs())

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are not held elsewhere")


@pytest.fixture
def _unlisted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of what a graph may hold that has missed everything."""
    monkeypatch.setattr(rehearsal, "expect_allowed", lambda model, name: Cost(elements=0, work=0))
    monkeypatch.setattr(rehearsal, "SECONDS", 1)


def _killing() -> ModelProto:
    """ONNX Runtime ends its process by a failed assertion when it is to draw numbers that do not vary."""
    model = plain()
    node = helper.make_node("RandomNormal", [], ["x"], shape=[4], scale=0.0, dtype=TensorProto.FLOAT)
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]))
    return model


@pytest.mark.usefixtures("_unlisted")
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (_killing(), "in a process of its own: its process was ended by SIGABRT"),
        (HOSTILE["functions that call each other twice, 40 deep"], "was ended by SIGXCPU, for it took more time"),
        (HOSTILE["Expand to 2^40"], "ONNX Runtime .* refuses it: .* std::bad_alloc"),
        (HOSTILE["a convolution of no groups"], "ONNX Runtime .* refuses it"),
    ],
    ids=["ends the process", "takes for ever", "takes all memory", "is refused"],
)
def test_what_the_list_misses_is_one_line(model: ModelProto, said: str) -> None:
    with pytest.raises(ArtefactError, match=said) as refused:
        rehearse({"the graph": model.SerializeToString()})
    assert re.fullmatch(r"the graph: [\x20-\x7e]+", str(refused.value))


@pytest.mark.usefixtures("_unlisted")
def test_of_several_the_one_that_does_it_is_named(tmp_path: Path) -> None:
    for name, model in {"good": plain(), "bad": _killing()}.items():
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=r"bad\.onnx: tried out in a process of its own"):
        rehearse({str(path): path for path in sorted(tmp_path.glob("*.onnx"), reverse=True)})


def test_what_is_declared_is_allowed_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Limits] = []

    def spy(function: object, request: object, seconds: float, limits: Limits) -> None:
        given.append(limits)

    monkeypatch.setattr(rehearsal, "in_fresh_process", spy)
    for cost in (Cost(0, 0), Cost(25_000_000, 4_000_000_000)):  # the second: ResNet-50
        monkeypatch.setattr(rehearsal, "expect_allowed", lambda model, name, cost=cost: cost)
        rehearse({"graph": cost.work.to_bytes(8, "little")})
    assert given == [Limits(5, 4 << 30), Limits(10, (4 << 30) + 400_000_000)]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was tried out, by name."""
    names: list[str] = []
    real = rehearsal.expect_allowed

    def spy(model: Path | bytes, name: str) -> Cost:
        names.append(Path(name).name)
        return real(model, name)

    monkeypatch.setattr(rehearsal, "expect_allowed", spy)
    monkeypatch.setattr(rehearsal, "_passed", set())
    return names


def test_every_door_rehearses_what_comes_in(golden: Path, tmp_path: Path, tried: list[str]) -> None:
    pack = Pack.open(golden)
    assert all(check.passes for check in verify_pack(pack))
    assert tried == ["graph.onnx"]
    export_task(pack, "birds", tmp_path / "birds.onnx")
    export_task(pack, "flowers", tmp_path / "flowers.onnx")
    assert tried == ["graph.onnx"]  # which is the same one; and the exports are our own
    with OnnxRunner({"birds": tmp_path / "birds.onnx", "flowers": tmp_path / "flowers.onnx"}):
        assert tried == ["graph.onnx", "birds.onnx", "flowers.onnx"]
    jobs_of_models([tmp_path / "birds.onnx"], BenchOptions())
    assert tried[3:] == ["birds.onnx"]


@pytest.mark.parametrize("layout", ["dense", "sparse", "selector", "shared"])
def test_every_layout_passes(golden: Path, tmp_path: Path, layout: str) -> None:
    pack = Pack.open(golden)
    (tmp_path / "models").mkdir()
    if layout == "shared":
        export_shared(pack, ["birds", "flowers"], tmp_path / "models", ExportOptions(layout=layout))
    elif layout == "selector":
        export_selector(pack, tmp_path / "models" / "all.onnx", ExportOptions(layout=layout))
    else:
        export_task(pack, "birds", tmp_path / "models" / "birds.onnx", ExportOptions(layout=layout))
    rehearse({path.name: path for path in (tmp_path / "models").glob("*.onnx")})
