"""Biases and normalisation of a task's own: trained for it alone, stored in its delta, gone when the next begins."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import (
    SPEC,
    Make,
    add_task,
    bits,
    frozen_bits,
    packed,
    sgd,
    small_module,
    small_network,
    step,
    train,
)
from torch import nn

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Backbone, Pack, append_task, create_pack, probe_batch
from packnet_deploy.training.network import PackedNetwork

BATCH = probe_batch(SPEC)
NORM = {"1.weight", "1.bias", "1.running_mean", "1.running_var"}
BIASES = {"3.bias", "8.bias"}
KINDS = {("norm",): NORM, ("biases",): BIASES, ("biases", "norm"): NORM | BIASES, (): set()}


def head_of(network: PackedNetwork) -> dict[str, Any]:
    return {f"head.{n}": p.detach().numpy().copy() for n, p in network.module.get_submodule("10").named_parameters()}


def live(network: PackedNetwork) -> dict[str, list[int]]:
    """The bits of what the module now has of its shared tensors."""
    tensors = dict(network.module.named_parameters()) | dict(network.module.named_buffers())
    return {name: bits(tensors[name]).tolist() for name in network.shared()}


def first_pack(path: Path, network: PackedNetwork) -> Pack:
    return create_pack(path, Backbone("small", "10"), SPEC, b"a graph", network.packable, first=network.new_task())


@pytest.mark.parametrize("kinds", KINDS, ids=" and ".join)
def test_exactly_what_is_asked_for_is_the_tasks_own(kinds: tuple[str, ...]) -> None:
    network = packed(1)
    shared = live(network)
    network.begin("second", ["a", "b"], separate=kinds)
    assert live(network) == shared, "it begins with task 1's"
    trained = dict(network.module.named_parameters())
    assert {n for n in NORM | BIASES if n in trained and trained[n].requires_grad} == KINDS[kinds] & trained.keys()
    train(network)
    network.prune(0.5)
    train(network)
    network.freeze()
    changed = {name for name, value in live(network).items() if value != shared[name]}
    assert changed == KINDS[kinds] == network.new_task().own.keys()
    assert {name: bits(tensor).tolist() for name, tensor in network.shared().items()} == shared


def test_normalisation_runs_on_the_batch_only_while_the_task_trains() -> None:
    network = packed(1)
    norm = network.module[1]
    for separate, modes in ((("norm",), [True, True, False]), (("biases",), [False] * 3), ((), [False] * 3)):
        network.begin(f"with {separate}", ["a", "b"], separate=separate)
        found = []
        for advance in (lambda: None, lambda: network.prune(0.5), network.freeze):
            advance()
            network.module.train()(torch.randn(4, *SPEC.shape))
            found.append(norm.training)
        assert found == modes, separate
        own = live(network)
        network.module.train()(torch.randn(4, *SPEC.shape) * 5)
        assert live(network) == own, "frozen, its statistics rest"


def test_the_next_task_begins_with_the_shared_values_again() -> None:
    network = packed(1)
    shared = live(network)
    add_task_with(network, "second", ("biases", "norm"))
    assert live(network) != shared
    network.begin("third", ["a", "b"])
    assert live(network) == shared
    train(network)
    network.prune(0.5)
    network.freeze()
    assert live(network) == shared
    assert network.new_task().own == {}
    add_task_with(network, "fourth", ("norm",))
    changed = {name for name, value in live(network).items() if value != shared[name]}
    assert changed == NORM


def add_task_with(network: PackedNetwork, name: str, separate: tuple[str, ...], make: Make = sgd) -> None:
    network.begin(name, ["a", "b", "c"], separate=separate)
    train(network, make)
    network.prune(0.5)
    train(network, make)
    network.freeze()


@pytest.mark.parametrize(
    "make",
    [sgd, lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)],
    ids=["momentum and weight decay", "adamw"],
)
def test_a_packs_tasks_answer_as_they_did_whatever_came_later(tmp_path: Path, make: Make) -> None:
    network = packed(1)
    pack = first_pack(tmp_path / "p.pack", network)
    answers = {"task1": network.logits(BATCH)}
    for name, separate in (("b", ("biases",)), ("n", ("norm",)), ("both", ("biases", "norm")), ("none", ())):
        add_task_with(network, name, separate, make)
        answers[name] = network.logits(BATCH)
        assert np.array_equal(
            network.logits(BATCH, network.as_task(network.state.task) | head_of(network)), answers[name]
        )
        pack = append_task(pack, network.new_task())  # holds frozen_sha256 against the bank on disk
        for task, expected in answers.items():
            loaded = pack.load_task(task)
            assert np.array_equal(network.logits(BATCH, loaded.tensors), expected), task
            assert np.array_equal(loaded.probe_logits, expected), task
    assert np.array_equal(network.as_task(2)["3.bias"], pack.bank().shared["3.bias"]), "older tasks see task 1's"


def test_a_network_resumed_from_the_pack_begins_where_the_live_one_does(tmp_path: Path) -> None:
    def averaging(seed: int = 0) -> nn.Sequential:
        module = small_module(seed)
        module[1] = nn.BatchNorm2d(8, momentum=None)  # its average counts batches
        return module

    network = PackedNetwork(averaging(), "10", SPEC)
    add_task(network, "first")
    pack = first_pack(tmp_path / "p.pack", network)
    add_task_with(network, "second", ("norm",))
    pack = append_task(pack, network.new_task())
    resumed = PackedNetwork.resume(pack, averaging(7))
    for each in (network, resumed):
        torch.manual_seed(3)
        add_task_with(each, "third", ("biases", "norm"))
    assert live(resumed) == live(network)
    assert np.array_equal(resumed.logits(BATCH), network.logits(BATCH))
    one, other = network.new_task(), resumed.new_task()
    assert one.frozen_sha256 == other.frozen_sha256
    assert all(np.array_equal(one.own[name], other.own[name]) for name in NORM | BIASES)


def test_for_task_1_they_are_the_shared_ones() -> None:
    network = small_network()
    network.begin("first", ["a", "b"], separate=("biases", "norm"))
    train(network)
    network.prune(0.5)
    network.freeze()
    task = network.new_task()
    assert task.own == {}
    assert task.shared.keys() == NORM | BIASES


def test_an_unknown_kind_is_refused_and_leaves_no_trace() -> None:
    network = packed(1)
    state, head = network.state, network.module[10]
    with pytest.raises(UsageError, match="separate: expected any of biases, norm, depthwise, got 'heads'"):
        network.begin("second", ["a", "b", "c"], separate=("heads",))
    assert (network.state, network.module[10]) == (state, head)


def test_a_task_refused_leaves_the_own_tensors_of_the_one_before() -> None:
    network = packed(1)
    add_task_with(network, "second", ("norm",))
    own = live(network)
    with pytest.raises(UsageError, match="the network's own head has 3 classes, the data 2"):
        network.begin("third", ["a", "b"], keep_head=True)
    assert live(network) == own


def test_layer_and_group_norms_are_normalisation() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 2)
    )
    network = PackedNetwork(module, "5", SPEC)
    add_task(network, "first")
    network.begin("second", ["a", "b"], separate=("norm",))
    train(network)
    network.prune(0.5)
    network.freeze()
    assert network.new_task().own.keys() == {"1.weight", "1.bias", "4.weight", "4.bias"}


def test_copies_keep_what_is_aside() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"], separate=("biases", "norm"))
    shared = {name: bits(tensor).tolist() for name, tensor in network.shared().items()}
    twin = copy.deepcopy(network)
    train(network)
    assert live(twin) == shared
    train(twin)
    for each in (network, twin):
        assert {name: bits(tensor).tolist() for name, tensor in each.shared().items()} == shared
        each.prune(0.5)
        each.freeze()
        each.begin("third", ["a", "b"])
        assert live(each) == shared


def test_frozen_weights_hold_while_normalisation_trains_in_mixed_precision() -> None:
    network = packed(1)
    before = {name: frozen_bits(network, 1)[name] for name in network.state.owners}
    network.begin("second", ["a", "b"], separate=("biases", "norm"))
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(3):
        network.module.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network.module(torch.randn(8, *SPEC.shape)).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        after = frozen_bits(network, 1)
        assert {name: after[name] for name in before} == before


def test_leftover_gradients_cannot_move_own_tensors_once_frozen() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"], separate=("biases", "norm"))
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    step(network.module, optimizer)
    network.prune(0.5)
    step(network.module, optimizer)
    network.freeze()
    own = live(network)
    optimizer.step()
    assert live(network) == own
