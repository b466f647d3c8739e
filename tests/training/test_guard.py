"""Frozen weights keep every bit, whatever optimisers, copies and files do to the module around them."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from small_networks import (
    SPEC,
    Make,
    Poison,
    ThroughData,
    add_task,
    bits,
    frozen_bits,
    loss_of,
    packed,
    sgd,
    small_network,
    step,
    train,
)
from torch import nn

from packnet_deploy.training.guard import FrozenGuard
from packnet_deploy.training.network import PackedNetwork

OPTIMISERS: dict[str, Make] = {
    "sgd": sgd,
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, weight_decay=0.1, momentum=0.5),
    "through .data": ThroughData,
    "poison": Poison,
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def network() -> PackedNetwork:
    """Task 1 frozen, task 2 in training."""
    network = packed(1)
    network.begin("second", ["a", "b"])
    return network


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_tasks_2_and_3_leave_what_is_frozen(make: Make, layout: torch.memory_format) -> None:
    network = packed(1)
    network.module.to(memory_format=layout)  # type: ignore[call-overload]
    for index in (2, 3):
        before = frozen_bits(network, index - 1)
        network.begin(f"task{index}", ["a", "b"])
        optimizer = network.guarded(make(list(network.trainable_parameters())))
        for _ in range(3):
            step(network.module, optimizer)
            assert frozen_bits(network, index - 1) == before
        with torch.no_grad():  # of what the optimisers broke
            for parameter in network.trainable_parameters():
                parameter.nan_to_num_(0.1, 0.1, 0.1)
        network.prune(0.5)
        train(network, make)
        assert frozen_bits(network, index - 1) == before
        with torch.no_grad():
            for parameter in network.trainable_parameters():
                parameter.nan_to_num_(0.1, 0.1, 0.1)
        network.freeze()
        assert frozen_bits(network, index - 1) == before


def test_without_the_guard_they_would_move(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    network._guard._unhook()
    train(network)
    assert frozen_bits(network, 1) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_value_there_is_comes_back_exactly(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, -0.0, 1.5, float("inf")], [float("-inf"), float("nan"), 6e-8, -3.0]], dtype=dtype)
    layer = nn.Linear(4, 2, bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(values)
    trainable = torch.tensor([[False, False, True, False], [False, False, False, True]])
    guard = FrozenGuard([(layer.weight, trainable, values)])
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    guard.restore()
    found = layer.weight.detach()
    assert torch.equal(found.view(integer)[~trainable], values.view(integer)[~trainable])
    assert bool(found[trainable].isnan().all()), "what may train is not touched"


def test_bursts_of_bad_gradients_stop_at_the_mask(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    for burst in (float("nan"), float("inf"), 1e38):
        loss_of(network.module).backward()
        for parameter in network.trainable_parameters():
            assert parameter.grad is not None
            parameter.grad.fill_(burst)
        optimizer.step()
        assert frozen_bits(network, 1) == before


def test_several_forwards_may_share_one_backward(network: PackedNetwork) -> None:
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    before = frozen_bits(network, 1)
    for _ in range(2):
        optimizer.zero_grad()
        (loss_of(network.module.train()) + loss_of(network.module)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert frozen_bits(network, 1) == before


def test_accumulated_gradients(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    for micro in range(6):
        loss_of(network.module.train()).backward()
        if micro % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
            assert frozen_bits(network, 1) == before


def test_autocast(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(3):
        network.module.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network.module)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert frozen_bits(network, 1) == before


def test_a_closure_that_is_called_many_times(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    optimizer = network.guarded(torch.optim.LBFGS(list(network.trainable_parameters()), lr=0.1, max_iter=4))
    network.module.train()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(network.module)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert frozen_bits(network, 1) == before


def test_the_layout_may_change_under_the_guard(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    network.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(network)
    assert frozen_bits(network, 1) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_device_may_change_between_any_two_calls() -> None:
    network = packed(1)
    before = frozen_bits(network, 1)
    network.begin("second", ["a", "b"])
    for device, call in (("cuda", lambda: network.prune(0.5)), ("cpu", network.freeze), ("cuda", network.new_task)):
        network.module.to(device)
        call()
        assert frozen_bits(network, 1) == before


def copies(network: PackedNetwork) -> Iterator[tuple[str, nn.Module, torch.optim.Optimizer]]:
    """The module in training, after everything that drops an optimiser's hooks."""
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    yield "deepcopy of module and optimiser", *copy.deepcopy((network.module, optimizer))
    alone = copy.deepcopy(network.module)
    yield "deepcopy of the module", alone, sgd(list(alone.parameters()))
    whole = copy.deepcopy(network)
    yield "deepcopy of the network", whole.module, sgd(list(whole.module.parameters()))
    pickled = pickle.loads(pickle.dumps(network.module))
    yield "pickle", pickled, ThroughData(list(pickled.parameters()))
    file = io.BytesIO()
    torch.save(network.module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    yield "save and load", loaded, ThroughData(list(loaded.parameters()))
    optimizer._optimizer_step_post_hooks.clear()
    yield "hooks lost", network.module, optimizer
    yield "an optimiser of somebody else", network.module, ThroughData(list(network.module.parameters()))


def test_copies_pickles_and_foreign_optimisers(network: PackedNetwork) -> None:
    weights = list(network.state.owners)
    before = {name: frozen_bits(network, 1)[name] for name in weights}
    for how, module, optimizer in copies(network):
        for _ in range(3):
            step(module, optimizer)
        module.eval()(torch.zeros(1, *SPEC.shape))  # what anybody computes, is computed with the frozen weights
        after = frozen_bits(network, 1, module)
        assert {name: after[name] for name in weights} == before, how
        weight = module.get_parameter("3.weight")
        assert weight[network.state.owners["3.weight"] == 2].any(), f"{how}: the rest does train"


def test_a_copy_leaves_the_original_alone(network: PackedNetwork) -> None:
    before = bits(network.module[0].weight).tolist()
    twin = copy.deepcopy(network)
    train(twin)
    assert bits(network.module[0].weight).tolist() == before
    assert bits(twin.module[0].weight).tolist() != before


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_older_weights_loaded_over_frozen_ones_are_put_back(network: PackedNetwork, mode: bool) -> None:
    train(network)  # so that the optimiser's hook has restored, and the module's need not
    before = frozen_bits(network, 1)
    older = {name: torch.randn_like(value) for name, value in network.module.state_dict().items() if name in before}
    network.module.load_state_dict({name: older[name] for name in network.state.owners}, strict=False)
    assert frozen_bits(network, 1) != before
    network.module.train(mode)(torch.zeros(2, *SPEC.shape))
    assert frozen_bits(network, 1) == before
    name, owner = "3.weight", network.state.owners["3.weight"]
    assert torch.equal(network.module.get_parameter(name)[owner == 2], older[name][owner == 2])


def test_what_is_saved_is_restored_first(network: PackedNetwork) -> None:
    before = frozen_bits(network, 1)
    with torch.no_grad():
        network.module[0].weight.fill_(7)
    state = network.module.state_dict()
    owner = network.state.owners["0.weight"]
    assert bits(state["0.weight"][owner == 1]).tolist() == before["0.weight"]


def test_a_forward_in_eval_mode_after_a_guarded_step_restores_nothing(network: PackedNetwork) -> None:
    calls = 0
    original = network._guard.restore

    def counted() -> None:
        nonlocal calls
        calls += 1
        original()

    train(network)
    network._guard.restore = counted  # type: ignore[method-assign]
    network.module.eval()
    for _ in range(3):
        network.module(torch.zeros(1, *SPEC.shape))
    assert calls == 0, "validation should not pay for what the optimiser's hook has done"


def test_normalisation_stays_in_eval_mode_whatever_the_user_calls(network: PackedNetwork) -> None:
    before = {name: bits(tensor).tolist() for name, tensor in network.shared().items()}
    assert {"1.weight", "1.bias", "1.running_mean", "1.running_var", "3.bias", "8.bias"} == before.keys()
    for _ in range(3):
        network.module.train()
        network.module(torch.randn(8, *SPEC.shape) * 9)
        assert network.module[5].training, "dropout still trains"
    train(network)
    train(network, lambda _: sgd(list(network.module.parameters())))
    assert {name: bits(tensor).tolist() for name, tensor in network.shared().items()} == before


def test_gradients_left_from_task_1_cannot_move_a_bias() -> None:
    network = small_network()
    network.begin("first", ["a", "b"])
    optimizer = network.guarded(sgd(list(network.trainable_parameters())))
    step(network.module, optimizer)
    network.prune(0.5)
    step(network.module, optimizer)
    network.freeze()
    before = frozen_bits(network, 1)
    optimizer.step()  # its momentum, its weight decay and the last gradients are still there
    sgd(list(network.module.parameters())).step()
    network.module.eval()(torch.zeros(1, *SPEC.shape))
    assert frozen_bits(network, 1) == before


def test_task_1_trains_everything() -> None:
    network = small_network()
    network.begin("first", ["a", "b"])
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    train(network)
    after = network.module.state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("again", [lambda m: m, copy.deepcopy], ids=["the same module", "a copy"])
def test_a_module_can_be_packed_anew(again: Callable[[nn.Module], nn.Module]) -> None:
    module = again(packed(2).module)
    fresh = PackedNetwork(module, "10", SPEC)
    fresh.begin("first", ["a", "b"])
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    train(fresh)
    module.eval()(torch.zeros(1, *SPEC.shape))  # here an old guard would put everything back
    still = [name for name, parameter in module.named_parameters() if torch.equal(parameter, before[name])]
    assert still == [], "guards of the earlier network must not hold it"


def test_hooks_come_off_with_the_guard() -> None:
    network = small_network()
    add_task(network, "first")
    assert len(network.module._forward_pre_hooks) == 1, "one guard at a time"
    network._guard.remove()
    assert not network.module._forward_pre_hooks
    assert not network.module._state_dict_pre_hooks
