"""Owner algebra: supports nest, and every weight is counted once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packnet_deploy.pack import FREE, MAX_TASKS, LayerCapacity, bank_sha256, capacity, count_by_owner, support
from packnet_deploy.pack.manifest import ParamSpec

OWNERS = st.lists(st.integers(0, MAX_TASKS), min_size=1, max_size=50).map(lambda owner: np.array(owner, np.uint8))


@given(OWNERS, st.integers(1, MAX_TASKS))
def test_the_support_is_what_the_task_and_its_elders_own(owner: np.ndarray, task: int) -> None:
    assert support(owner, task).tolist() == [0 < o <= task for o in owner.tolist()]


@given(OWNERS, st.integers(0, MAX_TASKS - 1))
def test_supports_nest(owner: np.ndarray, task: int) -> None:
    assert not (support(owner, task) & ~support(owner, task + 1)).any()
    assert not support(owner, 0).any()
    assert (support(owner, MAX_TASKS) == (owner != FREE)).all()


@given(OWNERS)
def test_every_weight_is_counted_once(owner: np.ndarray) -> None:
    counts = count_by_owner(owner.reshape(1, -1), MAX_TASKS)
    assert counts.dtype == np.int64
    assert counts.tolist() == [owner.tolist().count(task) for task in range(MAX_TASKS + 1)]


def test_counts_have_a_place_for_every_task() -> None:
    assert count_by_owner(np.array([0, 1, 1], np.uint8), 3).tolist() == [1, 2, 0, 0]
    with pytest.raises(ValueError, match="names task 4, but there are 3 tasks"):
        count_by_owner(np.array([4], np.uint8), 3)


def test_capacity_of_each_layer() -> None:
    owners = {"a": np.array([[0, 1], [2, 2]], np.uint8), "b": np.array([1], np.uint8)}
    assert capacity(owners, 2) == (LayerCapacity("a", 4, (1, 2)), LayerCapacity("b", 1, (1, 0)))
    assert [layer.free for layer in capacity(owners, 2)] == [1, 0]


@given(OWNERS, st.integers(1, 4))
def test_the_frozen_hash_sees_owned_weights_only(owner: np.ndarray, through: int) -> None:
    owner = owner % 6
    params = [ParamSpec("w", owner.shape)]
    values = {"w": np.arange(1, len(owner) + 1, dtype=np.float32)}
    shared = {"b": np.ones(2, np.float32)}

    def digest(changed: dict[str, np.ndarray]) -> str:
        return bank_sha256(params, changed, {"w": owner}, shared, through)

    for place in range(len(owner)):
        changed = {"w": values["w"].copy()}
        changed["w"][place] += 1
        assert (digest(changed) != digest(values)) == (0 < owner[place] <= through)
    assert bank_sha256(params, values, {"w": owner}, {"b": np.zeros(2, np.float32)}, through) != digest(values)
