"""Which layers a task may change, claims, and what of it an optimiser gets to see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from small_networks import (
    SPEC,
    ThroughData,
    add_task,
    bits,
    frozen_bits,
    loss_of,
    packed,
    sgd,
    small_module,
    small_network,
    train,
)
from torch import nn

from packnet_deploy.errors import StepOrderError, UsageError
from packnet_deploy.pack import Backbone, create_pack, probe_batch
from packnet_deploy.training.network import PackedNetwork

HEAD = ["10.weight", "10.bias"]
LAYERS = {"all": ["0.weight", "3.weight", "8.weight"], "fc": ["8.weight"], "classifier": []}


def weights_of(network: PackedNetwork) -> dict[str, list[int]]:
    return {name: bits(network.module.get_parameter(name)).tolist() for name in network.state.owners}


@pytest.mark.parametrize("layers", LAYERS)
def test_only_the_layers_asked_for_change(layers: str) -> None:
    network = packed(1)
    before = weights_of(network)
    free = {layer.name: layer.free for layer in network.capacity}
    network.begin("second", ["a", "b"], layers=layers)
    assert [name for name, p in network.module.named_parameters() if p.requires_grad] == LAYERS[layers] + HEAD
    train(network)
    network.prune(0.5)
    train(network)
    network.freeze()
    assert [name for name, value in weights_of(network).items() if value != before[name]] == LAYERS[layers]
    for layer in network.capacity:
        kept = free[layer.name] - round(0.5 * free[layer.name]) if layer.name in LAYERS[layers] else 0
        assert layer.owned[1] == kept
        assert layer.free == free[layer.name] - kept


def test_a_task_that_changes_its_head_alone_leaves_room_and_answers_for_the_rest() -> None:
    network = packed(1)
    before, capacity = frozen_bits(network, 1), network.capacity
    add_task_in(network, "classifier")
    assert [(layer.name, layer.free) for layer in network.capacity] == [(la.name, la.free) for la in capacity]
    assert frozen_bits(network, 1) == before
    first, second = network.as_task(1), network.as_task(2)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    add_task(network, "third")
    assert all(layer.owned[2] > 0 for layer in network.capacity)


def add_task_in(network: PackedNetwork, layers: str) -> None:
    network.begin(f"in {layers}", ["a", "b", "c"], layers=layers)
    train(network)
    network.prune(0.5)
    network.freeze()


def test_task_1_takes_every_layer() -> None:
    network = small_network()
    network.begin("first", ["a", "b"], layers="classifier")
    assert all(layer.free == 0 for layer in network.capacity)


def test_no_room_in_the_linear_layers_is_refused_with_the_figures() -> None:
    network = small_network()
    network.begin("first", ["a", "b"])
    network.prune({"0.weight": 0.5, "3.weight": 0.5, "8.weight": 0})
    network.freeze()
    state, head = network.state, network.module[10]
    with pytest.raises(UsageError, match=r"task 2: no weights are free in linear layers \(8\.weight 0 of 42\)"):
        network.begin("second", ["a", "b", "c"], layers="fc")
    assert (network.state, network.module[10]) == (state, head)
    network.begin("second", ["a", "b", "c"])


def test_a_network_without_linear_layers_has_no_fc() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = PackedNetwork(module, "3", SPEC)
    add_task(network, "first")
    with pytest.raises(UsageError, match=r"linear layers \(there are none\)"):
        network.begin("second", ["a", "b"], layers="fc")


def test_a_full_network_takes_tasks_with_a_head_alone() -> None:
    network = small_network()
    add_task(network, "first", rate=0)
    with pytest.raises(UsageError, match="task 2: no free weights are left in the network, of 690;"):
        network.begin("second", ["a", "b"])
    add_task_in(network, "classifier")
    assert network.state.task == 2


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(UsageError, match="layers: expected one of all, fc, classifier, got 'conv'"):
        small_network().begin("first", ["a", "b"], layers="conv")


def test_a_claim_holds_in_training() -> None:
    network = packed(1)
    claim = {name: torch.zeros_like(owner, dtype=torch.bool) for name, owner in network.state.owners.items()}
    claim["3.weight"][2:4] = True  # two filters
    claimed = claim["3.weight"] & (network.state.owners["3.weight"] == 0)
    before = weights_of(network)
    network.begin("second", ["a", "b"], claim=claim)
    train(network, ThroughData)  # noise on whatever it is given
    changed = bits(network.module.get_parameter("3.weight")) != np.array(before["3.weight"])
    assert np.array_equal(changed, claimed.reshape(-1).numpy())
    assert weights_of(network) | {"3.weight": before["3.weight"]} == before
    mask = {name: torch.zeros_like(where) for name, where in claim.items()}
    mask["3.weight"][2] = claimed[2]
    network.release(mask)
    network.freeze()
    assert int((network.state.owners["3.weight"] == 2).sum()) == int(claimed[3].sum())
    assert not network.module.get_parameter("3.weight")[2][claimed[2]].any()


def test_what_a_first_task_does_not_claim_is_zero() -> None:
    network = small_network()
    claim = {name: torch.rand(owner.shape) < 0.5 for name, owner in network.state.owners.items()}
    network.begin("first", ["a", "b"], claim=claim)
    for _ in range(2):
        for name, mask in claim.items():
            assert torch.equal(network.module.get_parameter(name) == 0, ~mask)
        train(network)
    assert np.array_equal(network.logits(probe_batch(SPEC)), network.logits(probe_batch(SPEC), here(network)))


def here(network: PackedNetwork) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """The network as its pack will have it."""
    head = {f"head.{n}": p.detach().numpy() for n, p in network.module[10].named_parameters()}
    return network.as_task(network.state.task) | head


def test_pruning_in_steps_with_training_between() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"])
    claimed = dict(network.state.claimed)
    for rate in (0.25, 0.5, 0.75):
        train(network)
        network.prune(rate)
        for name, owner in network.state.owners.items():
            assert int((owner == 2).sum()) == claimed[name] - round(rate * claimed[name])
    with pytest.raises(UsageError, match=r"prune rate 0\.5: .*not below the one before"):
        network.prune(0.5)
    network.freeze()
    with pytest.raises(StepOrderError, match=r"prune\(\) is out of order"):
        network.prune(0.9)


@pytest.fixture
def gloo(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("gloo")
@pytest.mark.parametrize("layers", LAYERS)
def test_distributed_data_parallel(layers: str) -> None:
    network = packed(1)
    before = {name: frozen_bits(network, 1)[name] for name in network.state.owners}
    shared = {name: bits(tensor).tolist() for name, tensor in network.shared().items()}
    network.begin("second", ["a", "b"], layers=layers, separate=("biases", "norm"))
    wrapped = nn.parallel.DistributedDataParallel(network.module)
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    for _ in range(3):
        wrapped.train()
        optimizer.zero_grad()
        loss_of(wrapped).backward()
        optimizer.step()
        after = frozen_bits(network, 1)
        assert {name: after[name] for name in before} == before
    assert {name: bits(tensor).tolist() for name, tensor in network.shared().items()} == shared
    assert network.own().keys() == {"1.weight", "1.bias", "1.running_mean", "1.running_var", "3.bias", "8.bias"}
    assert all(bits(tensor).tolist() != shared[name] for name, tensor in network.own().items())


def test_layers_that_do_not_change_cost_no_gradient() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"], layers="classifier")
    loss_of(network.module.train()).backward()
    with_gradient = [name for name, parameter in network.module.named_parameters() if parameter.grad is not None]
    assert with_gradient == HEAD


def test_a_resumed_network_takes_options_too(tmp_path: Path) -> None:
    network = packed(1)
    pack = create_pack(
        tmp_path / "p.pack", Backbone("small", "10"), SPEC, b"g", network.packable, first=network.new_task()
    )
    resumed = PackedNetwork.resume(pack, small_module(4))
    resumed.begin("second", ["a", "b"], layers="fc", separate=("biases",))
    names = [name for name, parameter in resumed.module.named_parameters() if parameter.requires_grad]
    assert names == ["3.bias", "8.weight", "8.bias", *HEAD]
