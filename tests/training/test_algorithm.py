"""The cycle as pure functions: exact pruning against an oracle, owners that never change hands, the order of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from packnet_deploy.errors import CheckFailed, StepOrderError, UsageError
from packnet_deploy.pack.owners import MAX_TASKS
from packnet_deploy.training.algorithm import PackingState, Phase, begin, freeze, prune, release, smallest, start

RATES = st.one_of(st.sampled_from([0, 0.25, 0.5, 0.75, 0.9, 1]), st.floats(0, 1))
# Few values, so that ties abound; 1 and its float32 neighbour; both zeros; subnormal and infinite ones.
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001192092896, 2.0, 1e-45, -1e-45, float("inf"), float("-inf")]),
    st.floats(-3, 3, width=32),
)


def oracle(weight: np.ndarray[Any, Any], held: np.ndarray[Any, Any], rate: float) -> np.ndarray[Any, Any]:
    """The definition, by a full stable sort: the k smallest magnitudes held, lower index first."""
    positions = np.flatnonzero(held)
    order = np.argsort(np.abs(weight.reshape(-1)[positions]), kind="stable")
    drop = np.zeros(weight.size, bool)
    drop[positions[order[: round(rate * len(positions))]]] = True  # Python rounds half to even
    return drop.reshape(weight.shape)


def flags(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def owners(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)


@st.composite
def layers(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    shape = draw(st.sampled_from([(1,), (7,), (64,), (4, 5), (2, 3, 4), (3, 4, 2, 2), (0,)]))
    size = int(np.prod(shape))
    weight = np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), np.float32).reshape(shape)
    held = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool).reshape(shape)
    return weight, held


@settings(max_examples=200, deadline=None)
@given(layers(), RATES)
def test_pruning_equals_a_stable_sort(layer: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], rate: float) -> None:
    weight, held = layer
    drop = smallest(torch.from_numpy(weight).abs(), torch.from_numpy(held), round(rate * int(held.sum()))).numpy()
    assert np.array_equal(drop, oracle(weight, held, rate))
    kept = held & ~drop
    if drop.any() and kept.any():
        assert np.abs(weight[kept]).min() >= np.abs(weight[drop]).max()


@pytest.mark.parametrize(
    ("rate", "size", "k"), [(0.5, 1, 0), (0.5, 3, 2), (0.5, 5, 2), (0.25, 10, 2), (0.75, 10, 8), (0.75, 6, 4)]
)
def test_half_a_weight_rounds_to_even(rate: float, size: int, k: int) -> None:
    weights = {"w": torch.ones(size)}
    state, _ = prune(begin(start(weights)), weights, rate)
    assert state.owners["w"].tolist() == [0] * k + [1] * (size - k), "ties go by position"


def test_position_means_c_order_whatever_the_memory_layout() -> None:
    weight = torch.ones(4, 6, 3, 3).contiguous(memory_format=torch.channels_last)
    held = torch.rand(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.7
    for layout in (torch.contiguous_format, torch.channels_last):
        drop = smallest(weight, held.contiguous(memory_format=layout), round(0.3 * int(held.sum())))
        assert np.array_equal(drop.numpy(), oracle(weight.numpy(), held.numpy(), 0.3))


def test_layers_beyond_float32s_integers_are_exact() -> None:
    size = (1 << 24) + 5
    weight = torch.full((size,), 0.5)
    weight[-2:] = 0.25  # the smallest are the last two; all others tie
    k = round(0.75 * size)
    drop = smallest(weight, torch.ones(size, dtype=torch.bool), k)
    assert int(drop.sum()) == k
    assert bool(drop[: k - 2].all())
    assert bool(drop[-2:].all())


def test_only_the_current_tasks_weights_count_and_change() -> None:
    state = PackingState({"w": owners(1, 1, 2, 2, 2, 2)}, 2, Phase.TRAINING, {"w": 4})
    weights = {"w": torch.tensor([0.01, -0.0, 5.0, -4.0, 3.0, 6.0])}
    after, pruned = prune(state, weights, 0.5)
    assert after.owners["w"].tolist() == [1, 1, 2, 0, 0, 2]
    assert torch.equal(pruned["w"], torch.tensor([0.01, -0.0, 5.0, 0.0, 0.0, 6.0]))
    assert pruned["w"].signbit().tolist() == [False, True, False, False, False, False], "zero, not -0.0"
    assert (after.task, after.phase) == (2, Phase.RETRAINING)
    assert weights["w"].tolist()[3] == -4.0, "the given weights are left alone"
    assert state.owners["w"].tolist() == [1, 1, 2, 2, 2, 2], "and so is the given state"


def test_each_layer_may_have_its_own_rate() -> None:
    weights = {name: torch.arange(1.0, 9) for name in "abc"}
    state, _ = prune(begin(start(weights)), weights, {"a": 0, "b": 0.25, "c": 1})
    assert [int((state.owners[name] == 0).sum()) for name in "abc"] == [0, 2, 8]


@pytest.mark.parametrize("rates", [{"a": 0.5}, {"a": 0.5, "b": 0.5, "c": 0.5}])
def test_rates_must_name_each_layer(rates: dict[str, float]) -> None:
    weights = {"a": torch.ones(2), "b": torch.ones(2)}
    with pytest.raises(UsageError, match=r"one for each packable parameter; missing or unknown: '[bc]'"):
        prune(begin(start(weights)), weights, rates)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match=r"prune rate: expected 0\.\.1, got"):
        prune(begin(start({"w": torch.ones(3)})), {"w": torch.ones(3)}, rate)


def test_magnitudes_without_an_order_are_refused() -> None:
    state = begin(start({"w": torch.ones(3)}))
    with pytest.raises(CheckFailed, match="'w': a weight is NaN"):
        prune(state, {"w": torch.tensor([1.0, float("nan"), 2.0])}, 0.5)


def test_what_scores_least_goes_whatever_its_magnitude() -> None:
    weights = {"w": torch.tensor([5.0, -4, 3, 2, 1, 0.5])}
    score = {"w": torch.tensor([0.0, 1, 1, 0, 1, 7])}
    state, pruned = prune(begin(start(weights)), weights, 0.5, score)
    assert state.owners["w"].tolist() == [0, 0, 1, 0, 1, 1], "ties go by position"
    assert pruned["w"].tolist() == [0, 0, 3, 0, 1, 0.5]
    magnitudes = {"w": weights["w"].abs()}
    assert prune(begin(start(weights)), weights, 0.5, magnitudes)[0].owners["w"].tolist() == [1, 1, 1, 0, 0, 0]


def test_scores_are_one_for_each_layer_and_have_an_order() -> None:
    weights = {"a": torch.ones(2), "b": torch.ones(2)}
    with pytest.raises(UsageError, match="scores: expected one for each packable parameter; missing or unknown: 'b'"):
        prune(begin(start(weights)), weights, 0.5, {"a": torch.ones(2)})
    with pytest.raises(CheckFailed, match="'b': a weight is NaN, or its score is"):
        prune(begin(start(weights)), weights, 0.5, {"a": torch.ones(2), "b": torch.tensor([1, float("nan")])})


# -- pruning in steps, and by other measures -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(RATES, min_size=1, max_size=5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_rate_counts_from_what_the_task_began_with(rates: list[float], size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {"w": torch.randn(size, generator=generator)}
    state = begin(start(weights))
    for rate in sorted(rates):
        before = state.owners["w"]
        state, weights = prune(state, weights, rate)
        assert int((state.owners["w"] == 0).sum()) == round(rate * size)
        assert not state.owners["w"][before == 0].any(), "what was given back stays so"
        weights = {"w": weights["w"] + torch.randn(size, generator=generator) * (state.owners["w"] == 1)}


def test_small_steps_without_training_between_end_where_one_step_does() -> None:
    weights = {"w": torch.randn(997, generator=torch.Generator().manual_seed(0))}
    once, _ = prune(begin(start(weights)), weights, 0.9)
    state = begin(start(weights))
    for step in range(1, 10):
        state, weights = prune(state, weights, 0.1 * step)
    assert torch.equal(state.owners["w"], once.owners["w"])


def test_a_rate_below_the_one_before_is_refused() -> None:
    weights = {"w": torch.arange(8.0)}
    state, weights = prune(begin(start(weights)), weights, 0.5)
    with pytest.raises(UsageError, match=r"rate 0\.25: parameter 'w' has only 4 of its 8 weights left.*cannot keep 6"):
        prune(state, weights, 0.25)


def test_release_gives_back_what_it_is_told() -> None:
    state = PackingState({"w": owners(1, 2, 2, 2), "v": owners(2, 2)}, 2, Phase.TRAINING, {"w": 3, "v": 2})
    weights = {"w": torch.tensor([9.0, 8, -7, 6]), "v": torch.tensor([5.0, 4])}
    after, left = release(state, weights, {"w": flags(0, 1, 1, 0), "v": flags(0, 0)})
    assert after.owners["w"].tolist() == [1, 0, 0, 2]
    assert after.owners["v"].tolist() == [2, 2]
    assert left["w"].tolist() == [9, 0, 0, 6]
    assert not left["w"].signbit().any()
    assert (after.phase, weights["w"].tolist()) == (Phase.RETRAINING, [9, 8, -7, 6])
    again, _ = prune(after, left, {"w": 1, "v": 0.5})
    assert [again.owners[name].tolist() for name in "wv"] == [[1, 0, 0, 0], [2, 0]], "rates count it in"


def test_release_takes_nothing_that_is_not_the_tasks() -> None:
    state = PackingState({"w": owners(1, 2, 0)}, 2, Phase.RETRAINING, {"w": 2})
    for mask in (flags(1, 0, 0), flags(0, 0, 1)):
        with pytest.raises(UsageError, match="release: 1 weights of parameter 'w' do not belong to task 2"):
            release(state, {"w": torch.ones(3)}, {"w": mask})
    with pytest.raises(UsageError, match="release: expected one for each packable parameter"):
        release(state, {"w": torch.ones(3)}, {})


# -- claims ----------------------------------------------------------------------------------------------------------


def test_a_task_may_claim_a_part_of_what_is_free() -> None:
    state = begin(
        PackingState({"w": owners(1, 0, 0, 0), "v": owners(0, 1)}, 1), {"w": flags(1, 1, 0, 1), "v": flags(0, 0)}
    )
    assert state.owners["w"].tolist() == [1, 2, 0, 2]
    assert state.owners["v"].tolist() == [0, 1]
    assert state.claimed == {"w": 2, "v": 0}
    assert state.trainable("w").tolist() == [False, True, False, True]
    weights = {"w": torch.tensor([1.0, 2, 0, 3]), "v": torch.zeros(2)}
    state, _ = prune(state, weights, 0.5)
    assert state.owners["w"].tolist() == [1, 0, 0, 2]
    assert freeze(state).free == 3


def test_a_task_may_claim_nothing_if_it_says_so() -> None:
    full = PackingState({"w": owners(1, 1)}, 1)
    state, weights = prune(begin(full, {"w": flags(0, 0)}), {"w": torch.ones(2)}, 0.75)
    assert freeze(state).owners["w"].tolist() == [1, 1]
    assert (freeze(state).task, weights["w"].tolist()) == (2, [1, 1])


def test_claims_must_name_each_parameter() -> None:
    with pytest.raises(UsageError, match="claim: expected one for each packable parameter; missing or unknown: 'w'"):
        begin(start({"w": torch.ones(2)}), {})


# -- the order of steps ----------------------------------------------------------------------------------------------

IN_PHASE = {
    Phase.FROZEN: PackingState({"w": owners(0, 1)}, 1, Phase.FROZEN),
    Phase.TRAINING: PackingState({"w": owners(2, 1)}, 2, Phase.TRAINING, {"w": 1}),
    Phase.RETRAINING: PackingState({"w": owners(2, 1)}, 2, Phase.RETRAINING, {"w": 1}),
}
CALLS = {
    "begin": (begin, [Phase.FROZEN]),
    "prune": (lambda state: prune(state, {"w": torch.ones(2)}, 0), [Phase.TRAINING, Phase.RETRAINING]),
    "release": (
        lambda state: release(state, {"w": torch.ones(2)}, {"w": flags(0, 0)}),
        [Phase.TRAINING, Phase.RETRAINING],
    ),
    "freeze": (freeze, [Phase.RETRAINING]),
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("name", CALLS)
def test_a_step_out_of_order_names_the_call_the_state_and_what_is_legal(name: str, phase: Phase) -> None:
    call, legal = CALLS[name]
    if phase in legal:
        call(IN_PHASE[phase])
        return
    others = [rf"{other}\(\)" for other, (_, phases) in CALLS.items() if phase in phases]
    listed = " or ".join([", ".join(others[:-1]), others[-1]] if others[1:] else others)
    task = IN_PHASE[phase].task
    needs = " or ".join(phase.name for phase in legal)
    with pytest.raises(
        StepOrderError,
        match=rf"{name}\(\) is out of order: task {task} is in phase {phase.name} .*only {listed} is legal.*{needs}$",
    ):
        call(IN_PHASE[phase])


def test_without_free_weights_no_task_begins() -> None:
    with pytest.raises(UsageError, match="task 2: no free weights are left in the network, of 2"):
        begin(PackingState({"w": owners(1, 1)}, 1))


def test_an_owner_map_has_no_name_for_task_256() -> None:
    assert begin(PackingState({"w": owners(0)}, MAX_TASKS - 1)).owners["w"].tolist() == [MAX_TASKS]
    with pytest.raises(UsageError, match=f"at most {MAX_TASKS} tasks"):
        begin(PackingState({"w": owners(0)}, MAX_TASKS))


@settings(max_examples=40, deadline=None)
@given(st.lists(RATES, min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_owners_never_change_once_frozen(rates: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (5, 7), "b": (3, 2, 3, 3)}
    state = start({name: torch.empty(shape) for name, shape in shapes.items()})
    for rate in rates:
        if state.free == 0:
            break
        held = {name: int((owner == 0).sum()) for name, owner in state.owners.items()}
        before = state
        state = begin(state)
        weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for name in shapes:
            assert torch.equal(state.trainable(name), before.owners[name] == 0), "every free weight, and no other"
        state, weights = prune(state, weights, rate)
        state = freeze(state)
        for name, owner in state.owners.items():
            old = before.owners[name]
            assert torch.equal(owner[old > 0], old[old > 0])
            assert int((owner == state.task).sum()) == held[name] - round(rate * held[name])
            assert not weights[name][owner == 0].any()
            assert not state.trainable(name).any()
