"""What C++ gives an engine is what the Python package gives it, by the bit, and a switch costs what it says.

Every task is switched to from every other, on a stand-in GPU that counts what is launched, read and copied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_networks import Network, pack_of, tiny_network
from plans import write_plan

from packnet_deploy.pack import Pack
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.difference import order_by_owner, traffic
from packnet_deploy.trt.layout import flat_bank, layout_of
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.placement import gpu_bytes, place, sizes_of

pytestmark = pytest.mark.slow

PRECISIONS = ("fp32", "fp16", "bf16")
SHARES = {"one": 0.5, "two": 0.5, "three": 1.0}


def dump(folder: Path, plan: Path, pack: Path) -> dict[str, Any]:
    """What the C++ runtime makes of a pack for a plan, or its refusal."""
    command = [folder / "tests" / "packnet-dump-engine", plan, pack]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer


def expect_pythons(answer: dict[str, Any], bank: EngineBank) -> None:
    """That it is what Python makes of it: the ordered bank, GPU memory, and all of every switch."""
    layout = layout_of(bank.weights, bank.precision.dtype)
    ordered = order_by_owner(*flat_bank(layout, bank), len(bank.tasks))
    assert answer["bank"] == {name: digest(getattr(ordered, name)) for name in ("values", "masks", "before")}
    tensors = [{name: digest(array) for name, array in bank.materialise(task).items()} for task in bank.tasks]
    own, banked = (layout.count - layout.banked) * layout.dtype.itemsize, layout.banked * layout.dtype.itemsize
    for where in ("host", "device"):
        sizes = sizes_of(bank)
        parts = gpu_bytes(sizes, "bind", place(sizes, "bind", where))
        assert answer[where]["refit"] == dataclasses.asdict(place(sizes, "refit", where))
        assert answer[where]["gpu_bytes"] == sum(parts.values()) - parts["in the plan"] - parts["buffers"]
        for switch in answer[where]["switches"]:
            cost = traffic(ordered, switch["from"], switch["to"])
            assert (switch["weights"], switch["values"], switch["positions"]) == dataclasses.astuple(cost), switch
            assert switch["launches"] == (switch["from"] != switch["to"])
            assert switch["copied"] == own
            assert switch["tensors"] == tensors[switch["to"] - 1], switch
        assert len(answer[where]["switches"]) == len(bank.tasks) * (len(bank.tasks) + 1)
    for switch in answer["no kernels"]["switches"]:
        assert switch["tensors"] == tensors[switch["to"] - 1], switch
        assert (switch["launches"], switch["copied"]) == (0, own + banked)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def own_norms(network: Network) -> dict[str, dict[str, np.ndarray]]:
    """Normalisation of a task's own: a scale that is negative, one that is zero, others; and a head's worth of bias."""
    rng = np.random.default_rng(7)
    own = {}
    for task in ("one", "three"):
        names = [name for name in network.tensors if name.startswith("n1.")]
        own[task] = {name: rng.uniform(0.1, 2, 8).astype(np.float32) for name in names}
        own[task]["n1.weight"][:2] = (-1.5, 0)
    return own


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_golden_pack(sanitized: Path, golden: Path, tmp_path: Path, precision: str) -> None:
    plan = tmp_path / "golden.plan"
    _, bank = write_plan(plan, Pack.open(golden), BuildOptions(precision=precision, switch="refit"))
    expect_pythons(dump(sanitized, plan, golden), bank)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_normalisation_of_a_tasks_own(sanitized: Path, tmp_path: Path, precision: str) -> None:
    network = tiny_network()
    network.tensors["n1.weight"][2:4] = (0, 1e-7)
    network.tensors["a.weight"][5] *= 1e-6  # subnormal in float16
    pack = pack_of(tmp_path / "p.pack", network, SHARES, classes={"two": 2}, own=own_norms(network))
    plan = tmp_path / "p.plan"
    _, bank = write_plan(plan, pack, BuildOptions(precision=precision, switch="bind", classes=5))
    assert bank.norms
    assert len({task.tensors["n1.scale"].tobytes() for task in bank.tasks}) == 3
    expect_pythons(dump(sanitized, plan, pack.path), bank)


def test_several_tiles_of_the_kernels_and_chunks_of_the_decoder(sanitized: Path, tmp_path: Path) -> None:
    """8,192 and 131,072 weights; the last of each is not full."""
    pack = pack_of(tmp_path / "p.pack", tiny_network(width=17_001), SHARES | {"four": 1.0})  # has nothing of its own
    plan = tmp_path / "p.plan"
    _, bank = write_plan(plan, pack, BuildOptions(precision="fp16", switch="bind"))
    expect_pythons(dump(sanitized, plan, pack.path), bank)


def test_a_layer_that_is_the_first_tasks_alone_is_in_the_plan_for_good(sanitized: Path, tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "p.pack", tiny_network(), SHARES, whole=("b.weight",))
    plan = tmp_path / "p.plan"
    _, bank = write_plan(plan, pack, BuildOptions(precision="fp16", switch="bind"))
    assert "b.weight" in bank.fixed
    expect_pythons(dump(sanitized, plan, pack.path), bank)
    shared = pack_of(tmp_path / "shared.pack", tiny_network(), SHARES)
    write_plan(plan, pack, BuildOptions(precision="fp16", switch="bind"), graph_sha256=shared.manifest.graph_sha256)
    assert "weight 'b.weight': expected [40, 8, 1, 1] in the plan, got none" in refusal(sanitized, plan, shared)


def test_a_pack_that_grew_fits_the_plan_of_before(sanitized: Path, tmp_path: Path) -> None:
    network = tiny_network()
    before = pack_of(tmp_path / "before.pack", network, {"one": 0.5})
    plan = tmp_path / "p.plan"
    write_plan(plan, before, BuildOptions(switch="refit"))
    grown = pack_of(tmp_path / "grown.pack", network, SHARES)
    _, bank = write_plan(tmp_path / "other.plan", grown, BuildOptions(switch="refit"))
    expect_pythons(dump(sanitized, plan, grown.path), bank)


def refusal(folder: Path, plan: Path, pack: Pack) -> str:
    answer = dump(folder, plan, pack.path)
    assert list(answer) == ["refused"]
    return str(answer["refused"])


def test_a_pack_that_does_not_fit_the_plan_is_refused(sanitized: Path, tmp_path: Path) -> None:
    network = tiny_network()
    plan, options = tmp_path / "p.plan", BuildOptions(switch="refit", precision="fp16")
    one = pack_of(tmp_path / "one.pack", network, {"one": 0.5}, classes={"one": 3})
    sidecar, _ = write_plan(plan, one, options)

    wider = pack_of(tmp_path / "wider.pack", network, {"one": 0.5, "two": 0.5}, classes={"one": 3})
    assert "task 2: expected at most 3 classes, the plan's logits, got 4" in refusal(sanitized, plan, wider)

    own = {"two": {"b.bias": network.tensors["b.bias"] + 1}}
    other = pack_of(
        tmp_path / "other.pack", network, {"one": 0.5, "two": 0.5}, classes=dict.fromkeys(SHARES, 3), own=own
    )
    assert "task 2: what the plan holds for good" in refusal(sanitized, plan, other)

    large = tiny_network()
    large.tensors["a.weight"] *= 1e6
    too_large = pack_of(tmp_path / "large.pack", large, {"one": 0.5}, classes={"one": 3})
    assert "'a.weight': expected values that fit fp16" in refusal(sanitized, plan, too_large)

    sparse = tuple(dataclasses.replace(layer, eligible=layer.name == "b.weight") for layer in sidecar.sparsity)
    write_plan(plan, one, options, sparse_weights=True, sparsity=sparse)
    assert "'b.weight': expected 2:4 sparsity" in refusal(sanitized, plan, one)

    weights, renamed = (
        tuple(dataclasses.replace(one, name=one.name.replace("a.", "c.")) for one in named)
        for named in (sidecar.weights, sidecar.sparsity)
    )
    write_plan(plan, one, options, weights=weights, sparsity=renamed)
    assert "weight 'a.weight': expected [8, 3, 3, 3] in the plan, got none" in refusal(sanitized, plan, one)
