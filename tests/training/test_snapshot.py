"""Snapshots: training interrupted anywhere goes on bit for bit, in a new process, on a network made afresh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import SPEC, add_task, bits, packed, small_module
from snapshot_points import POINTS, fresh, run
from torch import nn

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack import Backbone, append_task, create_pack
from packnet_deploy.training.network import PackedNetwork

PLAIN = (torch.Tensor, str, int, float, bool, type(None))


def state_of(network: PackedNetwork) -> dict[str, Any]:
    """All there is, as comparable values."""
    tensors = dict(network.module.named_parameters()) | dict(network.module.named_buffers())
    live = {name: t.tolist() if t.dtype == torch.int64 else bits(t).tolist() for name, t in tensors.items()}
    owners = {name: owner.tolist() for name, owner in network.state.owners.items()}
    shared = {name: bits(t).tolist() for name, t in network.shared().items()}
    trained = [name for name, p in network.module.named_parameters() if p.requires_grad]
    state = network.state
    return {"live": live, "owners": owners, "shared": shared, "own": list(network.own()), "trained": trained} | {
        "state": (state.task, state.phase, dict(state.claimed), state.patterned),
        "capacity": network.capacity,
    }


CONTINUES = """
import sys
import torch
from snapshot_points import POINTS, fresh, run

path, pack, pattern, begin, out = sys.argv[1:]
saved = torch.load(path, weights_only=True)
network = fresh(pack or None, pattern, seed=11)
network.restore(saved["network"])
optimizer = None
if int(begin) < POINTS:
    optimizer = network.guarded(torch.optim.AdamW(network.trainable_parameters(), lr=0.02, weight_decay=0.1))
    optimizer.load_state_dict(saved["optimizer"])
for _ in run(network, int(begin), POINTS, optimizer):
    pass
task = network.new_task()
torch.save({"network": network.snapshot(), "frozen": task.frozen_sha256, "own": sorted(task.own)}, out)
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task with everything shared, one with normalisation of its own, so that values are aside when one begins."""
    network = packed(1)
    path = tmp_path_factory.mktemp("packs") / "small.pack"
    grown = create_pack(path, Backbone("small", "10"), SPEC, b"a graph", network.packable, first=network.new_task())
    network.begin("second", ["a", "b"], separate=("norm",))
    network.prune(0.5)
    network.freeze()
    append_task(grown, network.new_task())
    return path


CASES = {"a new network": (False, "", ()), "2:4": (False, "2:4", ()), "own norms": (True, "", ("biases", "norm"))}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_interrupted_task_goes_on_bit_for_bit(case: tuple[bool, str, tuple[str, ...]], pack: Path) -> None:
    resumed, pattern, separate = case
    path = pack if resumed else None
    whole = fresh(path, pattern)
    optimizers = run(whole, 0, POINTS, None, separate)
    moments = []
    for optimizer in optimizers:
        moments.append((whole.snapshot(), _plain(optimizer), state_of(whole)))
    for point, (snapshot, optimizer_state, expected) in enumerate(moments):
        again = fresh(path, pattern, seed=5)
        again.restore(snapshot)
        assert state_of(again) == expected, f"restored after point {point}"
        optimizer = None
        if point + 1 < POINTS:
            optimizer = again.guarded(torch.optim.AdamW(again.trainable_parameters(), lr=0.02, weight_decay=0.1))
            optimizer.load_state_dict(optimizer_state)
        for _ in run(again, point + 1, POINTS, optimizer, separate):
            pass
        assert state_of(again) == state_of(whole), f"continued after point {point}"
        assert again.new_task().frozen_sha256 == whole.new_task().frozen_sha256


def _plain(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state, copied."""
    state = optimizer.state_dict()
    tensors = {i: {k: v.clone() for k, v in entry.items()} for i, entry in state["state"].items()}
    return {"state": tensors, "param_groups": state["param_groups"]}


def test_a_new_process_goes_on_from_a_file(tmp_path: Path, pack: Path) -> None:
    network = fresh(pack)
    for point, optimizer in enumerate(run(network, 0, POINTS, None, ("norm",))):
        if point == 5:
            saved = {"network": network.snapshot(), "optimizer": optimizer.state_dict()}
            torch.save(saved, tmp_path / "checkpoint.pt")
    arguments = [str(tmp_path / "checkpoint.pt"), str(pack), "", "6", str(tmp_path / "out.pt")]
    subprocess.run([sys.executable, "-c", CONTINUES, *arguments], check=True, cwd=Path(__file__).parent)
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    task, expected = network.new_task(), network.snapshot()
    assert (found["frozen"], found["own"]) == (task.frozen_sha256, sorted(task.own))
    assert found["network"]["tensors"].keys() == expected["tensors"].keys()
    for group in ("tensors", "owners", "aside"):
        for name, values in expected[group].items():
            got = found["network"][group][name]
            assert torch.equal(got.reshape(-1).view(torch.uint8), values.reshape(-1).view(torch.uint8)), name


def test_a_snapshot_is_plain_values_that_training_leaves_alone() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"], separate=("norm",))

    def check(value: object) -> None:
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value)
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)
        else:
            assert isinstance(value, PLAIN), type(value)
            assert not isinstance(value, nn.Parameter)

    snapshot = network.snapshot()
    check(snapshot)
    before = {name: values.clone() for name, values in snapshot["tensors"].items()}
    owners = {name: values.clone() for name, values in snapshot["owners"].items()}
    add = [parameter.detach().add_(1) for parameter in network.module.parameters()]
    network.prune(0.5)
    assert add
    assert all(torch.equal(snapshot["tensors"][name], values) for name, values in before.items())
    assert all(torch.equal(snapshot["owners"][name], values) for name, values in owners.items())


def test_restoring_is_guarded_at_once() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"])
    snapshot = network.snapshot()
    other = PackedNetwork(small_module(3), "10", SPEC)
    other.restore(snapshot)
    with torch.no_grad():
        for name in other.state.owners:
            other.module.get_parameter(name).add_(1)
    other.module.eval()(torch.zeros(1, *SPEC.shape))
    for name, owner in network.state.owners.items():
        frozen = owner == 1
        assert torch.equal(other.module.get_parameter(name)[frozen], snapshot["tensors"][name][frozen])
        assert not torch.equal(other.module.get_parameter(name)[~frozen], snapshot["tensors"][name][~frozen])


def other_width() -> nn.Module:
    module = small_module()
    module[8], module[10] = nn.Linear(6, 9), nn.Linear(9, 2)
    return module


def other_norm() -> nn.Module:
    module = small_module()
    module[1] = nn.BatchNorm2d(8, affine=False)
    return module


@pytest.mark.parametrize(
    ("module", "pattern", "message"),
    [
        (other_width(), "", "snapshot: taken of a network with other packable parameters, pattern or head"),
        (small_module(), "2:4", "snapshot: taken of a network with other packable parameters, pattern or head"),
        (other_norm(), "", r"snapshot: taken of another network: 1\.bias, 1\.weight differ"),
    ],
    ids=["widths", "pattern", "shared"],
)
def test_a_snapshot_of_another_network_is_refused(module: nn.Module, pattern: str, message: str) -> None:
    network = PackedNetwork(small_module(), "10", SPEC)
    add_task(network, "first")
    with pytest.raises(ArtefactError, match=message):
        PackedNetwork(module, "10", SPEC, pattern).restore(network.snapshot())
