"""What a switch gives TensorRT or writes, and the GPU memory that weights take.

On stand-ins for TensorRT and the GPU (stand_in.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_networks import pack_of, tiny_network
from stand_in import (
    StandInTensorRT,
)
from stand_in_engines import TASKS, Bench
from stand_in_plans import CLASSES, SHARES

from packnet_deploy.export.options import ExportOptions
from packnet_deploy.trt.bank import load_engine_bank
from packnet_deploy.trt.placement import gpu_bytes, place, sizes_of


def test_a_refit_gives_what_differs_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    """First everything, seen by TensorRT; then only what differs, unseen: these tasks share their normalisation."""
    bench.pack = pack_of(tmp_path / "shared.pack", tiny_network(), SHARES, classes=CLASSES)
    with bench.load("refit") as engine:
        log = bench.device.log
        assert not any(entry.startswith("give") for entry in log)
        log.clear()
        engine.set_task("one")
        given = {name for entry in log if entry.startswith("give") for name in entry.split()[1:]}
        assert given == {weight.name for weight in engine.sidecar.weights}
        log.clear()
        engine.set_task("two")
        gifts = [entry for entry in log if entry.startswith("give")]
        assert gifts
        assert all(entry.endswith(" unseen") for entry in gifts)
        given = {name for entry in gifts for name in entry.split()[1:-1]}
        assert given == {"a.weight", "b.weight", "head.weight", "head.bias"}
        log.clear()
        engine.set_task("two")
        assert log == []
        engine.infer(bench.images[:1])
        assert log == ["upload", "run 1", "download", "synchronise"]


def test_weights_of_a_sparse_engine_are_looked_at_every_time(bench: Bench) -> None:
    with bench.load("refit", sparse_weights=True) as engine:
        for task in TASKS:
            engine.set_task(task)
        assert not any(entry.endswith("unseen") for entry in bench.device.log)


def test_merged_weights_are_given_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInTensorRT, "merged", (frozenset({"b.weight", "n2.scale"}),))
    with bench.load("refit") as engine:
        for task in ("one", "three", "two"):
            engine.set_task(task)
            bench.expect(engine, task)
        gifts = [entry for entry in bench.device.log if entry.startswith("give")]
        assert all(("b.weight" in gift) == ("n2.scale" in gift) for gift in gifts)


def test_a_weight_larger_than_the_buffer_is_given_from_the_host(bench: Bench) -> None:
    """TensorRT reads it there when it is called, so that it must be written by then; others it reads on the stream."""
    sizes = sizes_of(load_engine_bank(bench.pack, ExportOptions().target(bench.pack)))
    assert sizes.largest > place(sizes, "refit", "host").scratch
    for bank, places in (("host", {"host", "device"}), ("device", {"device"})):
        with bench.load("refit", bank=bank) as engine:
            for task in ("one", "three", "two"):
                engine.set_task(task)
                bench.expect(engine, task)
            gifts = [entry.split()[1] for entry in bench.device.log if entry.startswith("from")]
            assert set(gifts) == places


def test_binding_writes_the_difference(bench: Bench) -> None:
    own = 4 * bench.own_count(load_engine_bank(bench.pack, ExportOptions().target(bench.pack)))
    with bench.load("bind") as engine:
        log = bench.device.log
        log.clear()
        engine.set_task("two")  # from zeros: the values of two owners, in one launch
        assert [entry.split()[0] for entry in log] == ["clear", "write", "copy", "synchronise"]
        assert "write 2" in log
        log.clear()
        engine.set_task("three")
        assert log == ["write 1", f"copy {own}", "synchronise"]
        log.clear()
        engine.set_task("one")
        assert log == ["clear owners 2", f"copy {own}", "synchronise"]
    with bench.load("selector") as engine:
        bench.device.log.clear()
        engine.set_task("two")
        assert bench.device.log == ["upload", "synchronise"]


@pytest.mark.parametrize("switch", ["refit", "bind"])
@pytest.mark.parametrize("bank", ["host", "device"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_memory_is_what_the_formula_says(bench: Bench, switch: str, bank: str, precision: str) -> None:
    """To the byte, what the driver's stand-in gave and TensorRT's took for weights; images and logits aside."""
    with bench.load(switch, bank=bank, precision=precision) as engine:
        for task in TASKS:
            engine.set_task(task)
        sizes = sizes_of(load_engine_bank(bench.pack, ExportOptions(precision=precision).target(bench.pack)))
        expected = gpu_bytes(sizes, switch, place(sizes, switch, bank))
        most = engine.sidecar.batch.most
        requests = 4 * most * (int(np.prod(engine.sidecar.input.shape)) + engine.sidecar.classes)
        assert bench.device.allocated - requests == sum(expected.values())
