"""What goes into a pack comes out of it, bit for bit, for every task: held against the slow reference."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_worlds import PARAMS, World, equal, make_world

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Pack, ParamSpec, append_task, capacity, decode, reference
from packnet_deploy.pack.encode import count_bits, pack_bits, padding_is_zero, unpack_bits
from packnet_deploy.pack.reading import is_printable
from packnet_deploy.pack.tensorfile import TensorFile

DTYPES = ("float32", "float16", "bfloat16")
NAMES = st.one_of(
    st.sampled_from(["a", "a.b.weight", "mask/a", "/", "..", "../../etc/passwd", " ", "ünï çødé", "重み", "🦜", '"\\']),
    st.text(min_size=1, max_size=12).filter(is_printable),
)
# 1, around multiples of 8, around the block sizes below
SHAPES = st.one_of(
    st.sampled_from([(1,), (7,), (8,), (9,), (1, 1, 1, 1), (16, 1), (3, 5, 1), (5, 13), (64,), (65,), (2, 3, 3, 3)]),
    st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
)
SHARES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    tasks = draw(st.integers(1, 5))
    return make_world(
        [ParamSpec(name, draw(SHAPES)) for name in names],
        [draw(st.lists(SHARES, min_size=1, max_size=3)) for _ in range(tasks)],
        [draw(st.sampled_from(DTYPES)) for _ in range(tasks)],
        draw(st.integers(0, 1 << 16)),
    )


def assert_round_trip(pack: Pack, world: World) -> None:
    last = len(world.value_dtypes)
    bank = pack.bank()
    assert equal(bank.owners, world.owners)
    assert equal(bank.values, world.dense(last))
    assert pack.capacity() == capacity(world.owners, last)
    for index in range(1, last + 1):
        dense = world.dense(index)
        loaded = pack.load_task(f"task{index}").tensors
        assert equal({name: loaded[name] for name in dense}, dense)
        assert equal(bank.materialise(index), dense)
        assert equal({name: loaded[name] for name in world.shared}, world.shared)
        assert loaded["head.weight"].tobytes() == np.full((2, 7), index, np.float32).tobytes()


@settings(max_examples=60, deadline=None)
@given(
    world=worlds(),
    block=st.sampled_from([1, 8, 13, 64, decode.BLOCK]),
    at_once=st.sampled_from([0, decode.AT_ONCE]),
    few_taken=st.sampled_from([0, decode.FEW_TAKEN, 1]),
    few_tasks=st.sampled_from([0, decode.FEW_TASKS]),
)
def test_any_packing_survives_its_files(
    world: World, block: int, at_once: int, few_taken: float, few_tasks: int
) -> None:
    limits = {"BLOCK": block, "AT_ONCE": at_once, "FEW_TAKEN": few_taken, "FEW_TASKS": few_tasks}
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(decode, **limits):
        world.build(Path(folder) / "any.pack")
        assert_round_trip(Pack.open(Path(folder) / "any.pack"), world)


@settings(max_examples=30, deadline=None)
@given(world=worlds())
def test_the_files_hold_what_the_reference_encodes(world: World) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pack = world.build(Path(folder) / "any.pack")
        for param in world.params:
            owner = world.owners[param.name].reshape(-1).tolist()
            weights = world.weights[param.name].reshape(-1).tolist()
            stored = []
            for entry in pack.tasks:
                with TensorFile(pack.file(entry)) as file:
                    mask = f"mask/{param.name}"
                    bits = file.read(mask).tobytes() if mask in file.entries else None
                    values = file.read(f"values/{param.name}").astype(np.float32).tolist()
                stored.append((bits, values))
                assert stored[-1] == reference.encode(owner, weights, entry.index)
            dense = world.dense(len(pack.tasks))[param.name].reshape(-1).tolist()
            assert reference.decode(param.size, stored) == (owner, dense)


@pytest.mark.parametrize("size", [decode.BLOCK - 1, decode.BLOCK, decode.BLOCK + 1, 2 * decode.BLOCK + 9])
def test_parameters_larger_than_a_block(tmp_path: Path, size: int) -> None:
    world = make_world([ParamSpec("large", (size,))], [(0.25,), (0.5,), (0.5,), (1.0,)], ["float32", *DTYPES])
    assert_round_trip(world.build(tmp_path / "large.pack"), world)


def test_a_pack_of_255_tasks(tmp_path: Path) -> None:
    params = [ParamSpec("wide", (17, 31)), ParamSpec("small", (3,))]
    world = make_world(params, [(1 / left, 0.01) for left in range(256, 1, -1)], seed=1)
    assert world.owners["wide"].max() > 250
    pack = world.build_unchecked(tmp_path / "full.pack")
    assert equal(pack.bank().owners, world.owners)
    for index in (1, 2, 128, 254, 255):
        assert equal(pack.bank(index).materialise(index), world.dense(index))
    loaded = pack.load_task("task255").tensors
    assert equal({name: loaded[name] for name in world.owners}, world.dense(255))
    with pytest.raises(UsageError, match="holds 255 tasks"):
        append_task(pack, replace(world.task(255), name="one-more"))


@pytest.mark.parametrize("shares", [[(0.0,)], [(1.0,)], [(0.0,), (1.0,), (1.0,)], [(1.0,), (0.0,), (0.5,)]])
def test_tasks_that_take_nothing_or_everything(tmp_path: Path, shares: list[tuple[float]]) -> None:
    world = make_world(PARAMS, shares)
    assert_round_trip(world.build(tmp_path / "edge.pack"), world)


def test_special_values_survive(tmp_path: Path) -> None:
    special = [-0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4028235e38]
    world = make_world([ParamSpec("odd", (len(special),))], [(1.0,)])
    world.weights["odd"][:] = special
    loaded = world.build(tmp_path / "odd.pack").load_task("task1").tensors["odd"]
    assert loaded.tobytes() == np.array(special, np.float32).tobytes()


def test_a_task_is_loaded_in_the_names_of_the_graph(tmp_path: Path) -> None:
    world = make_world()
    pack = world.build(tmp_path / "names.pack", tasks=1)
    loaded = pack.load_task("task1")
    names = {param.name for param in PARAMS} | world.shared.keys() | {"head.weight", "head.bias"}
    assert loaded.tensors.keys() == names
    assert loaded.classes == ("class 0", "class 1")
    assert loaded.probe_logits.tolist() == [[1, 1]] * 4


def test_a_task_may_replace_shared_tensors_for_itself_only(tmp_path: Path) -> None:
    world = make_world()
    pack = world.build(tmp_path / "own.pack", tasks=1)
    own = {"stem.bias": np.array([7, 8, 9], np.float32)}
    pack = append_task(pack, world.task(2, own=own))
    pack = append_task(pack, world.task(3))
    biases = [pack.load_task(entry.name).tensors["stem.bias"].tolist() for entry in pack.tasks]
    assert biases == [[0, 1, 2], [7, 8, 9], [0, 1, 2]]
    assert pack.bank().shared["stem.bias"].tolist() == [0, 1, 2]


@given(st.lists(st.booleans(), max_size=70), st.integers(0, 70), st.integers(0, 70))
def test_bits_are_unpacked_from_anywhere(mask: list[bool], start: int, count: int) -> None:
    array = np.array(mask, np.bool_)
    packed = pack_bits(array)
    assert packed.dtype == np.uint8
    assert len(packed) == (len(mask) + 7) // 8
    assert count_bits(packed) == sum(mask)
    assert all(packed[i // 8] >> (i % 8) & 1 == bit for i, bit in enumerate(mask))
    start = min(start, len(mask))
    count = min(count, len(mask) - start)
    assert unpack_bits(packed, start, count).tolist() == mask[start : start + count]


@given(st.integers(1, 70), st.data())
def test_padding_bits_are_seen(count: int, data: st.DataObject) -> None:
    packed = pack_bits(np.ones(count, np.bool_))
    assert padding_is_zero(packed, count)
    if count % 8:
        packed[-1] |= 1 << data.draw(st.integers(count % 8, 7))
        assert not padding_is_zero(packed, count)


def test_materialise_fills_the_arrays_it_is_given(tmp_path: Path) -> None:
    world = make_world()
    bank = world.build(tmp_path / "out.pack").bank()
    out = {param.name: np.full(param.shape, 9, np.float32) for param in PARAMS}
    dense = bank.materialise(2, out)
    assert all(dense[name] is out[name] for name in out)
    assert equal(out, world.dense(2))
    for index in (0, 4):
        with pytest.raises(ValueError, match=r"1\.\.3"):
            bank.materialise(index)


def test_the_bank_can_stop_at_an_earlier_task(tmp_path: Path) -> None:
    world = make_world()
    pack = world.build(tmp_path / "stop.pack")
    for through in (0, 1, 2, 3):
        bank = pack.bank(through)
        assert bank.tasks == through
        assert equal(bank.owners, world.owners_after(through))
        assert equal(bank.values, world.dense(through))
        assert bank.sha256(through) == pack.bank().sha256(through)
    for through in (-1, 4):
        with pytest.raises(ValueError, match=r"0\.\.3"):
            pack.bank(through)
