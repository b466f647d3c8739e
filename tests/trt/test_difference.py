"""A switch by the difference: the order of the bank, the counts, and the kernels, compiled for the host from their own
source, against ``switch_in_place`` and against masking from scratch, bit for bit.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from guarded import GUARD, TYPES, aligned, behind
from host_kernels import HostKernels

from packnet_deploy.errors import UsageError
from packnet_deploy.export.deploy_bank import NO_RANK
from packnet_deploy.trt import difference as module
from packnet_deploy.trt.device import Owners
from packnet_deploy.trt.difference import (
    TILE,
    WORDS,
    OrderedBank,
    Traffic,
    difference,
    order_by_owner,
    switch_in_place,
    traffic,
)

TASKS = 4
SIZES = [1, 31, 33, 256, 8191, 8192, 8193, 3 * TILE + 777]


def random_bank(size: int, dtype: np.dtype, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values of any bits, NaN and infinity too, and ranks, some of them free."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 256, size * dtype.itemsize, dtype=np.uint8)
    ranks = rng.choice(np.array([*range(TASKS), NO_RANK], np.uint8), size, p=[0.3, 0.3, 0.2, 0.01, 0.19])
    return bits.view(dtype), ranks


def masked(values: np.ndarray, ranks: np.ndarray, task: int) -> np.ndarray:
    """From scratch, as bits."""
    bits = values.view(f"u{values.itemsize}")
    return np.where(ranks < task, bits, 0)


def on_host(host: HostKernels, out: np.ndarray, bank: OrderedBank, source: int, target: int, span=None) -> None:
    """One launch, as ``Device`` makes it; ``out`` holds the weights of ``span``."""
    between, itemsize = difference(source, target), out.itemsize
    first, last = span or (0, out.size)
    rows = slice(between.first, between.last)
    masks, before = bank.masks[rows], bank.before[rows]
    owners = Owners(masks.ctypes.data, before.ctypes.data, bank.tiles, len(masks), first, last, itemsize)
    if between.up:
        host.write(out.ctypes.data, bank.values.ctypes.data, owners)
    else:
        host.clear(out.ctypes.data, owners)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("precision", TYPES)
def test_the_kernels_make_any_task_of_any_other(host: HostKernels, precision: str, size: int) -> None:
    dtype = TYPES[precision]
    values, ranks = random_bank(size, dtype)
    bank = order_by_owner(values, ranks, TASKS)
    bank = OrderedBank(aligned_copy(bank.values), bank.masks, bank.before)
    for source, target in itertools.permutations(range(TASKS + 1), 2):
        by_kernel, by_numpy = aligned(size, dtype), np.empty(size, dtype)
        by_kernel.view(f"u{dtype.itemsize}")[:] = by_numpy.view(f"u{dtype.itemsize}")[:] = masked(values, ranks, source)
        on_host(host, by_kernel, bank, source, target)
        switch_in_place(by_numpy, bank, source, target)
        expected = masked(values, ranks, target)
        for got in (by_kernel, by_numpy):
            np.testing.assert_array_equal(got.view(expected.dtype), expected, f"{source} to {target}")
        assert (behind(by_kernel) == GUARD).all()


@pytest.mark.parametrize("span", [(0, 128), (128, 8192), (8192, 8192 + 128), (4096, 24576), (16384, 25344), (5, 9)])
def test_a_part_of_the_bank_into_a_buffer_of_its_own(host: HostKernels, span: tuple[int, int]) -> None:
    """What a refit does, group by group: the buffer starts with the group's first weight, and ends with its last."""
    values, ranks = random_bank(3 * TILE + 777, np.dtype(np.float16))
    bank = order_by_owner(values, ranks, TASKS)
    bank = OrderedBank(aligned_copy(bank.values), bank.masks, bank.before)
    first, last = span
    out = aligned(last - first, values.dtype)
    out.view(np.uint16)[:] = 0
    on_host(host, out, bank, 0, 3, span)
    np.testing.assert_array_equal(out.view(np.uint16), masked(values, ranks, 3)[first:last])
    on_host(host, out, bank, 3, 1, span)
    np.testing.assert_array_equal(out.view(np.uint16), masked(values, ranks, 1)[first:last])
    assert (behind(out) == GUARD).all()


def test_owners_without_a_weight_and_tiles_without_an_owner(host: HostKernels) -> None:
    values, ranks = random_bank(3 * TILE, np.dtype(np.float32))
    ranks[ranks == 1] = 0
    ranks[TILE : 2 * TILE] = NO_RANK
    bank = order_by_owner(values, ranks, TASKS)
    assert bank.owned(2) == 0
    out = aligned(values.size, values.dtype)
    out[:] = 0
    for source, target in ((0, 2), (2, 4), (4, 1), (1, 4)):
        on_host(host, out, bank, source, target)
        np.testing.assert_array_equal(out.view(np.uint32), masked(values, ranks, target))
    assert traffic(bank, 1, 2) == Traffic(0, 0, bank.before[1].nbytes)
    assert traffic(bank, 2, 3).positions == 2 * TILE // 8 + bank.before[2].nbytes


def test_values_are_by_owner_and_then_by_position() -> None:
    values, ranks = np.arange(1, 41, dtype=np.float16), np.tile(np.array([2, 0, NO_RANK, 1], np.uint8), 10)
    bank = order_by_owner(values, ranks, 3)
    np.testing.assert_array_equal(bank.values[:30], np.concatenate([values[1::4], values[3::4], values[0::4]]))
    assert bank.values.nbytes % 16 == 0
    assert not bank.values[30:].any()
    assert (bank.tasks, bank.tiles, bank.masks.shape) == (3, 1, (3, WORDS))
    np.testing.assert_array_equal(bank.before, [[0, 10], [10, 20], [20, 30]])
    assert (bank.masks[0, 0], bank.masks[0, 1], bank.masks[0, 2]) == (0x22222222, 0x22, 0)
    assert [bank.owned(task) for task in (1, 2, 3)] == [10, 10, 10]


def test_what_a_switch_costs() -> None:
    """Up: values and masks of the owners between; down: masks alone. To the same task: nothing."""
    values, ranks = random_bank(2 * TILE, np.dtype(np.float16))
    bank = order_by_owner(values, ranks, TASKS)
    owned = [int((ranks == row).sum()) for row in range(TASKS)]
    masks = 2 * TILE // 8 + 3 * 4  # two tiles, three counts
    assert traffic(bank, 1, 3) == Traffic(owned[1] + owned[2], 2 * (owned[1] + owned[2]), 2 * masks)
    assert traffic(bank, 3, 2) == Traffic(owned[2], 0, masks)
    assert traffic(bank, 2, 2) == Traffic(0, 0, 0)
    assert traffic(bank, 0, 1) == Traffic(owned[0], 2 * owned[0], masks)


def test_more_weights_than_counts_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WEIGHTS", 99)
    with pytest.raises(UsageError, match="expected at most 99 weights, got 100"):
        order_by_owner(np.zeros(100, np.float16), np.zeros(100, np.uint8), 1)


def aligned_copy(values: np.ndarray) -> np.ndarray:
    copy = aligned(values.size, values.dtype)
    copy.view(np.uint8)[:] = values.view(np.uint8)
    return copy
