"""The cycle: exact pruning against an oracle, the order of steps, and frozen weights under every optimiser."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from packnet_deploy.errors import CheckFailed, StepOrderError, UsageError
from packnet_deploy.pack import InputSpec, probe_batch
from packnet_deploy.training import algorithm
from packnet_deploy.training.algorithm import Phase
from packnet_deploy.training.network import PackedNetwork

SPEC = InputSpec((3, 12, 12), (0.5,) * 3, (0.25,) * 3, resize=12)


def module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 7),
        nn.ReLU(),
        nn.Linear(7, 2),
    )


def network() -> PackedNetwork:
    return PackedNetwork(module(), "10", SPEC)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, classes: int = 2) -> None:
    """One step on random images, in training mode."""
    net.train()
    optimizer.zero_grad()
    images, labels = torch.randn(8, *SPEC.shape), torch.randint(0, classes, (8,))
    nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)


def train(net: PackedNetwork, make: Callable[[Any], torch.optim.Optimizer] = sgd, steps: int = 4) -> None:
    optimizer = net.guarded(make(list(net.trainable_parameters())))
    for _ in range(steps):
        step(net.module, optimizer, net.head_width)


def packed(tasks: int = 1) -> PackedNetwork:
    """A network with so many tasks frozen."""
    net = network()
    for index in range(tasks):
        net.begin(f"task{index + 1}", ["a", "b"])
        train(net)
        net.prune(0.5)
        train(net)
        net.freeze()
    return net


def bits(tensor: Tensor) -> list[int]:
    flat: list[int] = tensor.detach().contiguous().view(torch.int32).reshape(-1).tolist()
    return flat


def frozen_bits(net: PackedNetwork, through: int) -> dict[str, list[int]]:
    """Everything tasks 1..through rely on, as integers."""
    weights = dict(net.module.named_parameters())
    owned = {
        name: bits(weights[name].detach()[(owner > 0) & (owner <= through)]) for name, owner in net.state.owners.items()
    }
    return owned | {name: bits(tensor) for name, tensor in net.shared().items()}


def oracle(weight: np.ndarray[Any, Any], held: np.ndarray[Any, Any], rate: float) -> np.ndarray[Any, Any]:
    """The definition, by a full stable sort."""
    positions = np.flatnonzero(held)
    order = np.argsort(np.abs(weight.reshape(-1)[positions]), kind="stable")
    drop = np.zeros(weight.size, bool)
    drop[positions[order[: round(rate * len(positions))]]] = True
    return drop.reshape(weight.shape)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rate=st.one_of(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.floats(0, 1)))
def test_pruning_equals_a_stable_sort(data: st.DataObject, rate: float) -> None:
    size = data.draw(st.integers(1, 60))
    values = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0]), st.floats(-3, 3, width=32))
    weight = np.array(data.draw(st.lists(values, min_size=size, max_size=size)), np.float32)
    held = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    got = algorithm.smallest(torch.from_numpy(weight), torch.from_numpy(held), rate).numpy()
    assert np.array_equal(got, oracle(weight, held, rate))


def test_pruning_counts_the_current_tasks_weights_and_leaves_the_others() -> None:
    state = algorithm.Packing({"w": torch.tensor([1, 1, 2, 2, 2, 2], dtype=torch.uint8)}, 2, Phase.TRAINING)
    weights = {"w": torch.tensor([0.01, 0.02, 5.0, 4.0, 3.0, 6.0])}
    after, pruned = algorithm.prune(state, weights, 0.5)
    assert after.owners["w"].tolist() == [1, 1, 2, 0, 0, 2]
    assert pruned["w"].tolist() == pytest.approx([0.01, 0.02, 5.0, 0.0, 0.0, 6.0])
    assert weights["w"][3] == 4.0, "the given weights are not changed"


def test_half_to_even_and_per_layer_rates() -> None:
    net = network()
    net.begin("t", ["a", "b"])
    rates = {spec.name: rate for spec, rate in zip(net.packable, (0.0, 0.5, 1.0), strict=True)}
    net.prune(rates)
    assert [layer.free for layer in net.capacity] == [0, 6 * 8 * 9 // 2, 42]


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    net = network()
    net.begin("t", ["a", "b"])
    with pytest.raises(UsageError, match=r"prune rate: expected 0\.\.1"):
        net.prune(rate)


def test_steps_out_of_order_name_the_call_the_state_and_what_is_legal() -> None:
    net = network()
    for call in (lambda: net.prune(0.5), net.freeze, net.new_task):
        with pytest.raises(StepOrderError, match="out of order"):
            call()
    net.begin("t", ["a", "b"])
    with pytest.raises(StepOrderError, match=r"begin\(\).*TRAINING.*only prune\(\) is legal"):
        net.begin("u", ["a", "b"])
    with pytest.raises(StepOrderError, match=r"freeze\(\).*TRAINING"):
        net.freeze()
    net.prune(0.5)
    with pytest.raises(StepOrderError, match=r"prune\(\).*RETRAINING.*only freeze\(\) is legal"):
        net.prune(0.5)


def test_without_free_weights_the_next_task_is_refused() -> None:
    net = network()
    net.begin("t", ["a", "b"])
    net.prune(0)
    net.freeze()
    with pytest.raises(UsageError, match="no free weights are left"):
        net.begin("u", ["a", "b"])


def test_pruned_weights_are_zero_while_retraining_and_when_the_next_task_begins() -> None:
    net = packed()
    weights = dict(net.module.named_parameters())
    for name, owner in net.state.owners.items():
        assert not weights[name][owner == 0].any()
        assert weights[name][owner == 1].any()
    net.begin("next", ["a", "b"])
    assert all(not weights[n][o == 2].any() for n, o in net.state.owners.items())
    train(net)
    assert any(weights[n][o == 2].any() for n, o in net.state.owners.items()), "the freed weights do train"


class ThroughData(torch.optim.Optimizer):
    """Writes through ``.data`` to every weight, as optimisers of old do."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(torch.randn_like(parameter))


class Poison(ThroughData):
    """Leaves NaN, infinities and negative zeros everywhere."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.reshape(-1)[::3] = float("nan")
                parameter.data.reshape(-1)[1::3] = float("-inf")
                parameter.data.reshape(-1)[2::3] = -0.0


OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, weight_decay=0.1, momentum=0.5),
    "through .data": ThroughData,
    "poison": Poison,
}


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS.keys())
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_frozen_weights_keep_every_bit(
    make: Callable[[Any], torch.optim.Optimizer], layout: torch.memory_format
) -> None:
    net = packed(2)
    net.module.to(memory_format=layout)  # type: ignore[call-overload]
    net._guard._layers.clear()  # or it would undo the next line, as it should
    with torch.no_grad():
        net.module[0].weight.copy_(torch.where(net.state.owners["0.weight"] == 1, -0.0, net.module[0].weight))
    before = frozen_bits(net, 2)
    net._protect()
    net.begin("third", ["a", "b"])
    optimizer = net.guarded(make(list(net.trainable_parameters())))
    for _ in range(3):
        step(net.module, optimizer)
        assert frozen_bits(net, 2) == before


def test_without_the_guard_they_would_move() -> None:
    net = packed(1)
    before = frozen_bits(net, 1)
    net.begin("second", ["a", "b"])
    net._guard._layers.clear()
    train(net)
    assert frozen_bits(net, 1) != before


def test_normalisation_statistics_stay_even_if_the_user_trains_it() -> None:
    net = packed(1)
    before = {name: bits(tensor) for name, tensor in net.shared().items()}
    assert {"1.weight", "1.bias", "1.running_mean", "1.running_var", "3.bias", "8.bias"} == before.keys()
    net.begin("second", ["a", "b"])
    net.module.train()
    train(net)
    assert {name: bits(tensor) for name, tensor in net.shared().items()} == before


def copies(net: PackedNetwork) -> Iterator[tuple[str, nn.Module, torch.optim.Optimizer]]:
    """The module and an optimiser after everything that drops optimiser hooks."""
    optimizer = net.guarded(sgd(list(net.trainable_parameters())))
    both = copy.deepcopy((net.module, optimizer))
    yield "deepcopy of module and optimiser", *both
    alone = copy.deepcopy(net.module)
    yield "deepcopy of the module", alone, sgd(list(alone.parameters()))
    whole = copy.deepcopy(net)
    yield "deepcopy of the network", whole.module, sgd(list(whole.module.parameters()))
    file = io.BytesIO()
    torch.save(net.module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    yield "save and load", loaded, ThroughData(list(loaded.parameters()))
    yield "an optimiser of somebody else", net.module, sgd(list(net.module.parameters()))


def test_frozen_weights_survive_copies_pickles_and_foreign_optimisers() -> None:
    net = packed(1)
    net.begin("second", ["a", "b"])
    owners = net.state.owners
    expected = {name: bits(weight.detach()[owners[name] == 1]) for name, weight in net._weights.items()}
    for how, part, optimizer in copies(net):
        for _ in range(3):
            step(part, optimizer)
        state = part.state_dict()  # reading the state restores it, too
        assert {name: bits(state[name][owners[name] == 1]) for name in expected} == expected, how
        weight = dict(part.named_parameters())["3.weight"]
        assert not torch.equal(weight[owners["3.weight"] == 2], torch.zeros(())), how


def test_loading_an_older_state_does_not_bring_old_frozen_values_back() -> None:
    net = packed(1)
    before = frozen_bits(net, 1)
    stale = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in net.module.state_dict().items()}
    net.begin("second", ["a", "b"])
    weights_only = {name: stale[name] for name in net.state.owners}
    net.module.load_state_dict(weights_only, strict=False)
    net.module(torch.zeros(1, *SPEC.shape))
    assert frozen_bits(net, 1) == before


def test_old_tasks_answer_bit_for_bit_as_before() -> None:
    net = packed(1)
    head = {f"head.{k}": v.detach().numpy().copy() for k, v in net._head().named_parameters()}
    batch = probe_batch(SPEC)
    before = net.logits(batch, net.as_task(1) | head)
    assert np.array_equal(before, net.logits(batch))
    for name in ("second", "third"):
        net.begin(name, ["a", "b", "c"])
        train(net)
        net.prune(0.5)
        train(net)
        net.freeze()
        assert np.array_equal(net.logits(batch, net.as_task(1) | head), before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_values_are_rounded_in_the_module_to_what_is_stored(dtype: str) -> None:
    net = network()
    net.begin("t", ["a", "b"])
    train(net)
    net.prune(0.5)
    net.freeze(dtype)
    task = net.new_task()
    for name, values in task.weights.items():
        rounded = torch.from_numpy(values).to(getattr(torch, dtype)).float()
        assert torch.equal(
            rounded[torch.from_numpy(task.owners[name] == 1)], torch.from_numpy(values[task.owners[name] == 1])
        )
    assert np.array_equal(task.probe_logits, net.logits(probe_batch(SPEC)))


def test_a_weight_too_large_for_float16_is_refused() -> None:
    net = network()
    net.begin("t", ["a", "b"])
    with torch.no_grad():
        net.module[0].weight[0, 0, 0, 0] = 1e6
    net.prune(0.5)
    with pytest.raises(CheckFailed, match=r"'0\.weight': a weight does not fit float16"):
        net.freeze("float16")


def test_networks_that_packing_would_share_silently_are_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.secret = nn.Parameter(torch.randn(3, 3))
            self.scale = nn.Parameter(torch.ones(3, 1, 1))
            self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    with pytest.raises(UsageError, match="'secret'"):
        PackedNetwork(Bare(), "head", SPEC)
    with pytest.raises(UsageError, match="head 'nothing'"):
        PackedNetwork(module(), "nothing", SPEC)
    with pytest.raises(UsageError, match="nothing to pack"):
        PackedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), "1", SPEC)


def test_tied_weights_count_once_and_a_convolution_can_be_the_head() -> None:
    tied = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), tied, tied, nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    got = PackedNetwork(net, "3", SPEC)
    assert [p.name for p in got.packable] == ["0.weight", "1.weight"]
    got.begin("t", ["a", "b", "c"])
    assert got.head_width == 3
    assert net(torch.zeros(1, *SPEC.shape)).shape == (1, 3)


def test_a_kept_head_must_be_as_wide_as_the_classes() -> None:
    net = network()
    with pytest.raises(UsageError, match="has 2 classes, the data 3"):
        net.begin("t", ["a", "b", "c"], keep_head=True)
    kept = net._head().weight.detach().clone()
    net.begin("t", ["a", "b"], keep_head=True)
    assert torch.equal(net._head().weight, kept)
