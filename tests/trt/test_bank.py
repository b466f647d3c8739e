"""What engines are given is, value for value, what a dense export of the task has in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_networks import Network, pack_of, tiny_network
from stand_in_plans import CLASSES, SHARES, growing_pack, own_norms

from packnet_deploy.export.bind import bind_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack
from packnet_deploy.trt.bank import EngineBank, load_engine_bank

HEAD = {"head.weight", "head.bias"}


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


FP32 = ExportOptions()


def given(bank: EngineBank, task: str) -> dict[str, np.ndarray]:
    side = bank.task(task)
    return {**bank.fixed, **bank.materialise(side), **side.unpadded}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_task_is_its_dense_export(network: Network, tmp_path: Path, precision: str) -> None:
    pack = pack_of(tmp_path / "p.pack", network, SHARES, classes=CLASSES)
    target = ExportOptions(precision=precision).target(pack)
    bank = load_engine_bank(pack, target)
    assert {weight.dtype for weight in bank.weights} == {precision}
    for task in CLASSES:
        bound = bind_task(pack, task, pack.load_task(task), target, "dense")
        assert given(bank, task).keys() == bound.tensors.keys()
        for name, array in given(bank, task).items():
            assert array.dtype == bound.tensors[name].dtype
            assert np.array_equal(array, bound.tensors[name]), name


def test_normalisation_of_a_tasks_own_is_a_factor_on_the_one_bank(network: Network, tmp_path: Path) -> None:
    pack = growing_pack(tmp_path / "p.pack")
    bank = load_engine_bank(pack, FP32.target(pack))
    for task in CLASSES:
        bound = bind_task(pack, task, pack.load_task(task), FP32.target(pack), "dense")
        for name, array in given(bank, task).items():
            expected = bound.tensors[name]
            np.testing.assert_allclose(array, expected, rtol=3e-7, atol=1e-7 * np.abs(expected).max())
    assert not bank.task("one").ratios
    assert bank.task("two").ratios.keys() == {"a.weight", "b.weight"}


def test_what_tasks_share_goes_into_the_plan_for_good(network: Network, tmp_path: Path) -> None:
    """Biases take part in folding: with normalisation of its own, a task's are others."""
    common = pack_of(tmp_path / "a.pack", network, SHARES)
    shared = load_engine_bank(common, FP32.target(common))
    assert (set(shared.fixed), set(shared.tasks[0].tensors)) == ({"a.bias", "b.bias"}, HEAD)
    own = pack_of(tmp_path / "b.pack", network, SHARES, own=own_norms(network))
    bank = load_engine_bank(own, FP32.target(own))
    assert (set(bank.fixed), set(bank.tasks[0].tensors)) == (set(), HEAD | {"a.bias", "b.bias"})
    assert bank.fixed_sha256 != shared.fixed_sha256


def test_the_hash_of_what_is_there_for_good_is_over_names_types_and_values(network: Network, tmp_path: Path) -> None:
    def hash_of(name: str, tensors: dict[str, np.ndarray], precision: str = "fp32") -> str:
        changed = Network(network.skeleton, {**network.tensors, **tensors}, network.spec)
        pack: Pack = pack_of(tmp_path / name, changed, {"one": 0.4})
        return load_engine_bank(pack, ExportOptions(precision=precision).target(pack)).fixed_sha256

    first = hash_of("a.pack", {})
    assert hash_of("b.pack", {}) == first
    assert (
        hash_of("c.pack", {"a.weight": network.tensors["a.weight"] + 1}) == first
    )  # of the bank, not of what is fixed
    assert hash_of("d.pack", {"b.bias": network.tensors["b.bias"] + 1}) != first
    assert hash_of("e.pack", {}, "fp16") != first


def test_heads_are_padded_with_zeros_and_leave_room(tmp_path: Path) -> None:
    pack = growing_pack(tmp_path / "p.pack")
    for room, width in ((0, 4), (7, 7)):
        bank = load_engine_bank(pack, FP32.target(pack), room)
        assert bank.classes == width
        for task in bank.tasks:
            head, classes = task.tensors["head.weight"], CLASSES[task.entry.name]
            assert head.shape == (width, 40)
            assert head[:classes].any(axis=1).all()
            assert not head[classes:].any()
            assert task.unpadded["head.weight"].shape == (classes, 40)
