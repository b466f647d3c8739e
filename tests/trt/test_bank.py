"""What engines are given is, value for value, what the pack has in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_networks import Network, pack_of, tiny_network
from stand_in_plans import CLASSES, growing_pack

from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.write import model_buffers
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.runners.session import open_session, run_session
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
def test_a_tasks_weights_are_the_packs_rounded_and_no_more(network: Network, tmp_path: Path, precision: str) -> None:
    pack = growing_pack(tmp_path / "p.pack")
    bank = load_engine_bank(pack, ExportOptions(precision=precision).target(pack))
    dtype = bank.precision.dtype
    assert {weight.dtype for weight in bank.weights} == {precision}
    for task in CLASSES:
        arrays, expected = given(bank, task), pack.load_task(task).tensors
        for name in ("a.weight", "b.weight", "b.bias", *HEAD):
            assert arrays[name].dtype == dtype
            np.testing.assert_array_equal(arrays[name], expected[name].astype(dtype), name)


def test_a_bank_gives_every_tasks_logits(tmp_path: Path) -> None:
    pack = growing_pack(tmp_path / "p.pack")
    bank = load_engine_bank(pack, FP32.target(pack))
    for task in CLASSES:
        onnx = b"".join(model_buffers(bank.model, given(bank, task)))
        logits = run_session(open_session(onnx), {"images": probe_batch(pack.input)})
        assert compare(logits, pack.load_task(task).probe_logits).passes


def test_normalisation_changes_with_the_task_from_the_first_one_on(network: Network, tmp_path: Path) -> None:
    """What else tasks share goes into the plan for good."""
    norms = {f"n{n}.{kind}" for n in (1, 2) for kind in ("scale", "shift")}
    pack, grown = pack_of(tmp_path / "a.pack", network, {"one": 0.4}), growing_pack(tmp_path / "b.pack")
    alone, own = (load_engine_bank(each, FP32.target(each)) for each in (pack, grown))
    assert (set(alone.fixed), set(alone.tasks[0].tensors)) == ({"b.bias"}, HEAD | norms)
    assert (set(own.fixed), set(own.tasks[0].tensors)) == ({"b.bias"}, HEAD | norms)
    assert own.fixed_sha256 == alone.fixed_sha256


def test_a_layer_that_is_the_first_tasks_to_the_last_weight_is_in_the_plan_for_good(
    network: Network, tmp_path: Path
) -> None:
    """Later tasks train the others alone; a layer with a free weight changes, as long as no task has it too."""
    pack = pack_of(tmp_path / "p.pack", network, {"one": 0.4, "two": 0.5}, whole=("b.weight",))
    bank = load_engine_bank(pack, ExportOptions(precision="fp16").target(pack))
    assert list(bank.values) == list(bank.ranks) == ["a.weight"]
    assert {weight.name for weight in bank.weights if weight.banked} == {"a.weight"}
    np.testing.assert_array_equal(bank.fixed["b.weight"], pack.load_task("two").tensors["b.weight"].astype(np.float16))
    pack = pack_of(tmp_path / "one.pack", network, {"one": 0.4})
    one = load_engine_bank(pack, FP32.target(pack))
    assert list(one.values) == ["a.weight", "b.weight"]


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
