"""Layouts: what is stored sparse, and that nothing is lost by it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from packnet_deploy.export.write import SparseTensor, lay_out_sparse


def filled(count: int, size: int = 300) -> np.ndarray:
    array = np.zeros(size, np.float32)
    array[:count] = 1
    return array.reshape(3, -1)


def test_sparse_only_where_it_is_smaller() -> None:
    tensors = {"third": filled(100), "less": filled(99), "not packed": filled(1)}
    laid = lay_out_sparse(tensors, {"third", "less"})
    assert list(laid) == list(tensors)
    assert laid["third"] is tensors["third"]  # 12 bytes a value against 4: equal, so dense
    assert isinstance(laid["less"], SparseTensor)
    assert laid["not packed"] is tensors["not packed"]


def test_two_byte_weights_are_sparse_below_a_fifth() -> None:
    tensors = {"fifth": filled(60).astype(np.float16), "less": filled(59).astype(np.float16)}
    laid = lay_out_sparse(tensors, set(tensors))
    assert laid["fifth"] is tensors["fifth"]  # 10 bytes a value against 2
    assert isinstance(laid["less"], SparseTensor)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_sparse_tensor_gives_the_array_back(values: list[float], rows: int, seed: int) -> None:
    array = np.zeros((rows, 7, 3), np.float32)
    array.reshape(-1)[np.random.default_rng(seed).choice(array.size, len(values), replace=False)] = values
    laid = lay_out_sparse({"w": array}, {"w"})["w"]
    assert isinstance(laid, SparseTensor)
    again = np.zeros(laid.shape, np.float32)
    again.reshape(-1)[laid.positions] = laid.values
    np.testing.assert_array_equal(again, array)
    assert np.all(np.diff(laid.positions) > 0)
