"""Measuring PyTorch: in its real process, and refused before anything is measured where that cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.prepare import jobs_of_pack
from packnet_deploy.bench.report import IN_TURN, REPEATED
from packnet_deploy.bench.run import run_jobs
from packnet_deploy.bench.ways import ways_of
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack import Backbone, InputSpec, Pack, append_task, create_pack

QUICK = BenchOptions(batch_sizes=(1, 2), repeats=3, warmup=1, threads=1, device="cpu", backends=("torch",))


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Two tasks of the quickstart's network, untrained."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: train)")
    from packnet_deploy.training.backbones import QUICKSTART, build
    from packnet_deploy.training.network import PackedNetwork
    from packnet_deploy.training.trace import trace_skeleton

    torch.manual_seed(0)
    module, head = build(QUICKSTART, 3)
    network = PackedNetwork(module, head, InputSpec((3, 32, 32), (0.5,) * 3, (0.25,) * 3, 32))
    network.begin("one", ["a", "b", "c"])
    network.prune(0.5)
    network.freeze()
    graph = trace_skeleton(module, head, network.spec).SerializeToString(deterministic=True)
    backbone, first = Backbone(QUICKSTART, head), network.new_task()
    pack = create_pack(tmp_path / "net.pack", backbone, network.spec, graph, network.packable, first)
    network.begin("two", ["d", "e"])
    network.prune(0.5)
    network.freeze()
    return append_task(pack, network.new_task())


def test_one_network_that_is_lent_each_tasks_weights(pack: Pack, tmp_path: Path) -> None:
    (job,) = jobs_of_pack(pack, ["one", "two"], tmp_path, QUICK)
    assert sum(Path(file).stat().st_size for file in job.files) == sum(
        path.stat().st_size for path in pack.path.rglob("*") if path.is_file()
    )
    report = run_jobs([job], QUICK)
    (found,) = report.measurements
    assert (found.label, found.tasks, found.gpu_memory_bytes) == ("lend torch", ("one", "two"), None)
    assert set(found.providers.values()) == {"PyTorch, cpu"}
    both = [(batch, task) for batch in (1, 2) for task in ("one", "two")]
    for how in (IN_TURN, REPEATED):
        assert [(row.batch, row.task) for row in found.timings(how)] == both
    assert found.switch is not None
    assert found.switch.runs == 3 * 2
    assert report.machine.versions["torch"]
    assert [way.label for way in ways_of(report.measurements)] == ["lend torch"]


def test_what_cannot_be_had_is_said_first(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    custom = Pack.open(golden)
    with pytest.raises(UsageError, match="backend torch: this pack's network is not one packnet can build"):
        jobs_of_pack(custom, ["birds"], tmp_path, QUICK)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"backend torch needs .*packnet-deploy\[train\]"):
        jobs_of_pack(custom, ["birds"], tmp_path, QUICK)
    assert not list(tmp_path.iterdir())
