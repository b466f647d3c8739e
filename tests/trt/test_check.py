"""What is held against a plan's sidecar before the plan is deserialised: each mismatch is one line with both values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from export_networks import pack_of, tiny_network
from stand_in import GPU, VERSION, StandInDevice, StandInTensorRT
from stand_in_plans import CLASSES, SHARES, first_tasks, growing_pack, write_plan

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.pack import InputSpec, Pack
from packnet_deploy.pack.pattern import obeys
from packnet_deploy.trt.check import check_plan, load_checked_bank, read_plan
from packnet_deploy.trt.flavour import Flavour
from packnet_deploy.trt.sidecar import Batch, Gpu, Sidecar, SparseLayer, read_sidecar, write_sidecar


@dataclass
class Case:
    """Everything that is held against each other; right as it is."""

    pack: Pack
    plan: Path
    sidecar: Sidecar
    flavour: Flavour
    gpu: Gpu = GPU

    def check(self) -> bytes:
        return check_plan(self.plan, self.sidecar, self.pack, self.flavour, self.gpu)

    def refused(self, *parts: str) -> None:
        """Refused in one line that names the plan and has every part."""
        with pytest.raises(ArtefactError) as caught:
            self.check()
        message = str(caught.value)
        assert message.startswith(f"{self.plan}: ")
        assert "\n" not in message
        for part in parts:
            assert part in message
        assert "again" in message  # what to do


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A plan of a pack's first two tasks of three."""
    pack = growing_pack(tmp_path / "tiny.pack")
    sidecar = write_plan(tmp_path / "tiny.plan", first_tasks(pack, 2), "refit", classes=4)
    trt = StandInTensorRT(StandInDevice(), "refit")
    return Case(pack, tmp_path / "tiny.plan", sidecar, trt.flavour)


def test_what_is_right_gives_the_bytes_that_were_checked(case: Case) -> None:
    assert case.check() == case.plan.read_bytes()
    bank = load_checked_bank(case.plan, case.sidecar, case.pack)
    assert [task.entry.name for task in bank.tasks] == list(SHARES)
    assert bank.weights == case.sidecar.weights


def test_another_backend(case: Case) -> None:
    case.flavour = Flavour("tensorrt-rtx", case.flavour.api)
    case.refused("backend: expected tensorrt, got tensorrt-rtx; use tensorrt")


def test_another_version(case: Case) -> None:
    """The very same, to the last digit: plans hold code that only fits that."""
    case.sidecar = replace(case.sidecar, tensorrt="10.13.3.10")
    case.refused(f"version of tensorrt: expected 10.13.3.10, got {VERSION}; install tensorrt==10.13.3.10")


def test_another_gpu(case: Case) -> None:
    case.sidecar = replace(case.sidecar, compute_capabilities=("7.5", "9.0"))
    case.refused("compute capability: expected 7.5, 9.0, got 8.6 (Stand-in); build the plan again for this GPU")
    case.sidecar = replace(case.sidecar, compute_capabilities=("7.5", "8.6"))
    case.check()


def test_another_backbone(case: Case) -> None:
    got, other = case.pack.manifest.graph_sha256, "0" * 64
    case.sidecar = replace(case.sidecar, graph_sha256=other)
    case.refused(f"graph_sha256 (the pack's backbone): expected {other}, got {got}")


def test_another_input(case: Case) -> None:
    other = InputSpec((3, 5, 6), (0.5, 0.4, 0.3), (0.2, 0.3, 0.5), 8)
    case.sidecar = replace(case.sidecar, input=other)
    case.refused("input_sha256", other.sha256)


def test_a_plan_of_another_image_size_is_held_against_that_size(case: Case, tmp_path: Path) -> None:
    case.sidecar = write_plan(case.plan, case.pack, "refit", image_size=9)
    assert case.sidecar.input.shape == (3, 9, 9)
    case.check()
    load_checked_bank(case.plan, case.sidecar, case.pack)
    case.sidecar = replace(case.sidecar, input=replace(case.sidecar.input, resize=100))
    case.refused("input_sha256")


def test_a_task_that_is_another_one(case: Case) -> None:
    """The same names and sizes, trained another time: the delta's hash tells."""
    other = replace(case.sidecar.tasks[1], sha256="0" * 64)
    case.sidecar = replace(case.sidecar, tasks=(case.sidecar.tasks[0], other))
    got = case.pack.tasks[1].sha256
    case.refused(
        "task 2 of the pack: expected 'two' of 2 classes, sha256 " + "0" * 64, f"got 'two' of 2 classes, sha256 {got}"
    )


def test_a_pack_with_fewer_tasks(case: Case) -> None:
    case.pack = first_tasks(case.pack, 1)
    case.refused("task 2 of the pack: expected 'two'", "got none", "grown from")


def test_a_plan_of_one_task(case: Case) -> None:
    case.sidecar = write_plan(case.plan, case.pack, "none", task="two")
    case.check()
    case.sidecar = replace(case.sidecar, tasks=(replace(case.sidecar.tasks[0], index=3),))
    case.refused("task 3 of the pack: expected 'two'", "got 'three'")


def test_a_wider_head_needs_another_plan(case: Case) -> None:
    assert CLASSES["three"] == 3
    case.sidecar = write_plan(case.plan, first_tasks(case.pack, 2), "bind")
    case.check()  # 4 logits: room for 3 classes
    case.sidecar = replace(case.sidecar, classes=2, tasks=case.sidecar.tasks[1:])
    case.refused("task 'one': expected at most 2 classes", "got 4", "--classes leaves room")


def test_a_plan_that_was_damaged(case: Case) -> None:
    content = bytearray(case.plan.read_bytes())
    content[100] ^= 1
    case.plan.write_bytes(content)
    case.refused("sha256: expected " + case.sidecar.plan_sha256, "restore both")
    case.plan.write_bytes(content[:-1])
    case.refused(f"size in bytes: expected {len(content)}, got {len(content) - 1}")
    case.plan.unlink()
    with pytest.raises(EnvironmentFault, match="no such file; build it with packnet build"):
        read_plan(case.plan, case.sidecar)


def test_a_plan_that_is_no_file(case: Case) -> None:
    case.plan.unlink()
    case.plan.mkdir()
    with pytest.raises((ArtefactError, EnvironmentFault), match=re.escape(str(case.plan))):
        read_plan(case.plan, case.sidecar)


# ---- what needs the weights ----------------------------------------------------------------------------------------


def test_other_fixed_weights(case: Case) -> None:
    sidecar = replace(case.sidecar, fixed_sha256="0" * 64)
    with pytest.raises(ArtefactError, match=r"fixed_sha256 \(.*\): expected 0000.*, got [0-9a-f]{64}; build"):
        load_checked_bank(case.plan, sidecar, case.pack)


def test_a_later_task_may_bring_normalisation_of_its_own(tmp_path: Path) -> None:
    """A plan from a pack of one task has scales and shifts among what changes, though nothing else has any yet."""
    pack = growing_pack(tmp_path / "tiny.pack")
    sidecar = write_plan(tmp_path / "tiny.plan", first_tasks(pack, 1), "refit", classes=4)
    assert {"n1.scale", "n1.shift", "n2.scale", "n2.shift"} < {weight.name for weight in sidecar.weights}
    bank = load_checked_bank(tmp_path / "tiny.plan", sidecar, pack)
    scales = [task.tensors["n1.scale"] for task in bank.tasks]
    assert not np.array_equal(scales[0], scales[1])


def test_a_later_task_that_brings_its_own_of_what_the_plan_has_for_good(tmp_path: Path) -> None:
    """The first two tasks share a convolution's bias, so it went into the plan; the third has another."""
    network = tiny_network()
    own = {"three": {"b.bias": network.tensors["b.bias"] + 1}}
    pack = pack_of(tmp_path / "tiny.pack", network, SHARES, classes=CLASSES, own=own)
    sidecar = write_plan(tmp_path / "tiny.plan", first_tasks(pack, 2), "refit")
    assert "b.bias" not in [weight.name for weight in sidecar.weights]
    with pytest.raises(
        ArtefactError, match=r"tensor 'b\.bias': expected the same for every task, as the plan was built"
    ):
        load_checked_bank(tmp_path / "tiny.plan", sidecar, pack)


def test_other_weights_than_the_sidecar_names(case: Case) -> None:
    first = replace(case.sidecar.weights[0], name="other.weight")
    for weights in ((first, *case.sidecar.weights[1:]), case.sidecar.weights[1:]):
        with pytest.raises(ArtefactError, match=r"(weight|tensor) 'a\.weight'.*expected.*got.*; build the plan again"):
            load_checked_bank(case.plan, replace(case.sidecar, weights=weights), case.pack)


def test_a_layer_whose_kernel_may_be_sparse_keeps_its_pattern(case: Case) -> None:
    """Weights at random, half of them in use, break 2:4; the plan was built when it still held."""
    layers = tuple(SparseLayer(layer.name, layer.name == "b.weight", False) for layer in case.sidecar.sparsity)
    sidecar = replace(case.sidecar, sparse_weights=True, sparsity=layers)
    with pytest.raises(ArtefactError, match=r"weight 'b\.weight': .*2 of 4 .*tasks added since \(three\); build"):
        load_checked_bank(case.plan, sidecar, case.pack)
    load_checked_bank(case.plan, replace(sidecar, sparse_weights=False), case.pack)
    unfit = tuple(replace(layer, eligible=layer.name == "a.weight") for layer in layers)  # of 3 input channels
    with pytest.raises(ArtefactError, match=r"weight 'a\.weight': .*2 of 4"):
        load_checked_bank(case.plan, replace(sidecar, sparsity=unfit), case.pack)
    dense = tuple(replace(layer, eligible=False) for layer in layers)
    load_checked_bank(case.plan, replace(sidecar, sparsity=dense), case.pack)


def test_a_layer_that_kept_its_pattern_is_no_obstacle(tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "sparse.pack", tiny_network(), {"one": 0.02, "two": 0.02})
    assert obeys(pack.bank().owners["b.weight"] > 0)
    sidecar = write_plan(tmp_path / "tiny.plan", first_tasks(pack, 1), "refit")
    layers = tuple(replace(layer, eligible=layer.name == "b.weight") for layer in sidecar.sparsity)
    load_checked_bank(tmp_path / "tiny.plan", replace(sidecar, sparse_weights=True, sparsity=layers), pack)


# ---- a sidecar that contradicts itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("flavour", lambda s: replace(s, flavour="tensorrt-lean")),
        ("switch", lambda s: replace(s, switch="swap")),
        ("precision", lambda s: replace(s, precision="int8")),
        ("batch", lambda s: replace(s, batch=Batch(2, 1, 8))),
        ("batch", lambda s: replace(s, batch=Batch(0, 1, 8))),
        ("tasks", lambda s: replace(s, tasks=())),
        ("tasks", lambda s: replace(s, tasks=s.tasks[1:])),
        ("tasks", lambda s: replace(s, tasks=s.tasks[::-1])),
        ("classes", lambda s: replace(s, classes=3)),
        ("weights", lambda s: replace(s, weights=())),
        ("weights", lambda s: replace(s, weights=(*s.weights, s.weights[0]))),
        ("weights", lambda s: replace(s, weights=(replace(s.weights[0], dtype="fp16"), *s.weights[1:]))),
        ("weights", lambda s: replace(s, weights=(replace(s.weights[0], shape=(-1, 3, 3, 3)), *s.weights[1:]))),
        ("sparsity", lambda s: replace(s, sparsity=(SparseLayer("stray", True, False),))),
    ],
)
def test_a_sidecar_that_makes_no_sense(case: Case, field: str, change: Callable[[Sidecar], Sidecar]) -> None:
    write_sidecar(change(case.sidecar), case.plan)
    with pytest.raises(ArtefactError, match=rf"tiny\.plan\.json: damaged .*sidecar\.{field}: contradicts.*build"):
        read_sidecar(case.plan)
