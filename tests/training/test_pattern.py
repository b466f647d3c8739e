"""2:4: the fast selection against one weight at a time, and the pattern over any number of tasks, on any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from packnet_deploy.errors import UsageError
from packnet_deploy.pack.owners import support
from packnet_deploy.pack.pattern import obeys
from packnet_deploy.training import pattern
from packnet_deploy.training.algorithm import PackingState, Phase, begin, freeze, prune, release, start

Array = np.ndarray[Any, Any]
# Linear, pointwise, kernels of one to three dimensions, a grouped convolution (its weight has inputs/groups).
SHAPES = st.sampled_from([(1, 4), (3, 12), (2, 8, 1, 1), (2, 4, 3, 2), (5, 4, 3), (2, 4, 2, 1, 2), (6, 4, 1, 1)])
RATES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))
VALUES = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, float("inf")]), st.floats(-3, 3, width=32))


def groups_of(shape: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """The positions of every group, as the pattern is defined."""
    groups = []
    for position in np.ndindex(*shape):
        if position[1] % 4 == 0:
            groups.append([(position[0], position[1] + i, *position[2:]) for i in range(4)])
    return groups


def within(array: Array) -> bool:
    """Whether at most 2 of every group are non-zero, counted one by one."""
    return all(sum(array[position] != 0 for position in group) <= 2 for group in groups_of(array.shape))


def reference(owner: Array, weight: Array, rate: float) -> Array:
    """What task 9 holds of a parameter after pruning: take the best weight that still fits, again and again.

    ``owner`` before the task began. The best: largest magnitude, higher position among equals.
    """
    group_of: dict[tuple[int, ...], int] = {}
    left: dict[int, int] = {}
    for index, group in enumerate(groups_of(owner.shape)):
        left[index] = max(0, 2 - sum(owner[position] != 0 for position in group))
        group_of |= dict.fromkeys(group, index)
    count = sum(left.values())
    positions = [position for position in np.ndindex(*owner.shape) if owner[position] == 0]
    best = sorted(positions, key=lambda p: (abs(weight[p]), p), reverse=True)
    kept = np.zeros(owner.shape, bool)
    for position in best:
        if kept.sum() < count - round(rate * count) and left[group_of[position]] > 0:
            kept[position] = True
            left[group_of[position]] -= 1
    return kept


def test_a_score_decides_within_each_group_and_among_all() -> None:
    weights = {"w": torch.tensor([[9.0, 8, 7, 6, 5, 4, 3, 2]])}
    score = {"w": torch.tensor([[0.0, 1, 2, 3, 9, 9, 9, 4]])}
    for rate, kept in ((0, [0, 0, 1, 1, 0, 1, 1, 0]), (0.5, [0, 0, 0, 0, 0, 1, 1, 0])):
        state, _ = prune(begin(start(weights, ["w"])), weights, rate, score)
        assert state.owners["w"].tolist() == [kept]


@st.composite
def layers(draw: st.DrawFn) -> tuple[Array, Array]:
    """A weight, and an owner map whose owned weights are within the pattern."""
    shape = draw(SHAPES)
    size = int(np.prod(shape))
    weight = np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), np.float32).reshape(shape)
    owner = np.zeros(shape, np.uint8)
    for group in groups_of(shape):
        for position in draw(st.lists(st.sampled_from(group), max_size=2)):
            owner[position] = draw(st.integers(1, 8))
    return weight, owner


@settings(max_examples=150, deadline=None)
@given(layers(), RATES)
def test_pruning_keeps_what_taking_the_best_one_by_one_does(layer: tuple[Array, Array], rate: float) -> None:
    weight, owner = layer
    state = PackingState({"w": torch.from_numpy(owner)}, 8, patterned=frozenset("w"))
    everything = {"w": torch.ones(owner.shape, dtype=torch.bool)}
    state, _ = prune(begin(state, everything), {"w": torch.from_numpy(weight)}, rate)
    assert np.array_equal((state.owners["w"] == 9).numpy(), reference(owner, weight, rate))


@settings(max_examples=100, deadline=None)
@given(layers())
def test_a_task_claims_the_free_weights_of_open_groups(layer: tuple[Array, Array]) -> None:
    _, owner = layer
    claimable = pattern.claimable(torch.from_numpy(owner)).numpy()
    room = 0
    for group in groups_of(owner.shape):
        owned = sum(owner[position] != 0 for position in group)
        room += 2 - owned
        for position in group:
            assert claimable[position] == (owner[position] == 0 and owned < 2)
    state = PackingState({"w": torch.from_numpy(owner)}, 8, patterned=frozenset("w"))
    assert state.free == room
    assert begin(state, {"w": torch.ones(owner.shape, dtype=torch.bool)}).claimed == {"w": room}


@settings(max_examples=40, deadline=None)
@given(
    SHAPES,
    st.lists(st.lists(RATES, min_size=1, max_size=3), min_size=1, max_size=6),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_task_and_their_union_keep_the_pattern(
    shape: tuple[int, ...], tasks: list[list[float]], part: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    other = (3, 5)  # dense
    state = start({"w": torch.empty(shape), "dense": torch.empty(other)}, patterned=["w"])
    weights = {"w": torch.zeros(shape), "dense": torch.zeros(other)}
    for rates in tasks:
        before, room = state, int(pattern.open_budget(state.owners["w"]).sum())
        claim = {name: torch.rand(w.shape, generator=generator) < 0.7 for name, w in weights.items()} if part else None
        if claim is None and state.free == 0:
            break
        state = begin(state, claim)
        for rate in sorted(rates):
            noise = {name: torch.randn(w.shape, generator=generator) for name, w in weights.items()}
            weights = {name: torch.where(state.trainable(name), noise[name], w) for name, w in weights.items()}
            state, weights = prune(state, weights, rate)
            if claim is None:
                assert int((state.owners["w"] == state.task).sum()) == room - round(rate * room)
        state = freeze(state)
        for name, owner in before.owners.items():
            assert torch.equal(state.owners[name][owner > 0], owner[owner > 0]), "owners never change"
        owner = state.owners["w"].numpy()
        for task in range(1, state.task + 1):
            assert within(np.where(support(owner, task), weights["w"].numpy(), 0))
        assert within(owner)
        assert pattern.obeys(state.owners["w"] != 0)
        assert not weights["w"][state.owners["w"] == 0].any()


def test_the_first_prune_brings_a_dense_network_into_the_pattern() -> None:
    weights = {"w": torch.arange(16.0).reshape(2, 8)}
    state, pruned = prune(begin(start(weights, ["w"])), weights, 0)
    assert pruned["w"].tolist() == [[0, 0, 2, 3, 0, 0, 6, 7], [0, 0, 10, 11, 0, 0, 14, 15]]
    state, pruned = prune(begin(start(weights, ["w"])), weights, 0.5)
    assert pruned["w"].tolist() == [[0] * 8, [0, 0, 10, 11, 0, 0, 14, 15]]
    assert state.claimed == {"w": 8}
    assert freeze(state).free == 4


def test_groups_lie_along_the_input_channels() -> None:
    weights = {"w": torch.ones(1, 4, 2, 2)}
    weights["w"][0, :2] = 5  # two channels of four are full at every kernel pixel
    state, _ = prune(begin(start(weights, ["w"])), weights, 0)
    assert state.owners["w"][0, :2].all()
    assert not state.owners["w"][0, 2:].any()


def test_the_memory_layout_does_not_matter() -> None:
    weight = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    owners = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weights = {"w": weight.contiguous(memory_format=layout)}
        state, _ = prune(begin(start(weights, ["w"])), weights, 0.3)
        owners.append(state.owners["w"])
    assert torch.equal(*owners)


def test_releasing_against_the_pattern_is_noticed_before_it_is_frozen() -> None:
    weights = {"w": torch.ones(1, 4)}
    drop = {"w": torch.tensor([[True, False, False, False]])}
    state, weights = release(begin(start(weights, ["w"])), weights, drop)
    with pytest.raises(UsageError, match="'w': more than 2 of 4 weights have an owner; prune by 0 or more first"):
        freeze(state)
    state, _ = prune(state, weights, 0)
    assert freeze(state).phase is Phase.FROZEN


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0.1, 0.6))
def test_the_check_agrees_with_counting(shape: tuple[int, ...], seed: int, density: float) -> None:
    owner = (np.random.default_rng(seed).random(shape) < density).astype(np.uint8)
    assert obeys(owner != 0) == within(owner) == pattern.obeys(torch.from_numpy(owner != 0))
