"""The buffer of switched weights: what lies at each address is what ``EngineBank.materialise`` says, by the bit.

The kernels are the real ones, compiled for the host; the GPU's memory and stream are stand-ins.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from host_kernels import HostKernels
from stand_in import StandInDevice, at
from stand_in_plans import first_tasks, growing_pack

from packnet_deploy.errors import UsageError
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack
from packnet_deploy.trt.bank import EngineBank, Weight, load_engine_bank
from packnet_deploy.trt.buffer import PlacedBank, WeightBuffer
from packnet_deploy.trt.layout import ALIGNMENT, layout_of
from packnet_deploy.trt.placement import Placement, Sizes, gpu_bytes, place, sizes_of

PRECISIONS = ("fp32", "fp16", "bf16")


def expect_held(buffer: WeightBuffer, bank: EngineBank, index: int) -> None:
    task = bank.tasks[index - 1]
    for weight, expected in bank.materialise(task).items():
        got = at(buffer.addresses[weight], expected.size, expected.dtype)
        wanted = np.ascontiguousarray(expected).reshape(-1).view(np.uint8)
        np.testing.assert_array_equal(got.view(np.uint8), wanted, f"{task.entry.name}: {weight}")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("which", ["golden", "own normalisation"])
def test_every_task_from_every_other(
    host: HostKernels, golden: Path, tmp_path: Path, which: str, where: str, precision: str
) -> None:
    pack = Pack.open(golden) if which == "golden" else growing_pack(tmp_path / "own.pack")
    bank = load_engine_bank(pack, ExportOptions(precision=precision).target(pack))
    device = StandInDevice(host)
    buffer = WeightBuffer(device, PlacedBank(device, bank, place(sizes_of(bank), "bind", where)))
    for source, target in permutations(range(1, len(bank.tasks) + 1), 2):
        for index in (source, target):
            buffer.fill(index)
            device.synchronise()
            expect_held(buffer, bank, index)


def test_what_may_not_have_been_done_is_done_from_scratch(golden: Path) -> None:
    pack = Pack.open(golden)
    bank = load_engine_bank(pack, ExportOptions().target(pack))
    device = StandInDevice()
    buffer = WeightBuffer(device, PlacedBank(device, bank, place(sizes_of(bank), "bind", "host")))
    buffer.fill(2)
    device.queue.clear()  # as a GPU that has failed
    buffer.forget()
    buffer.fill(1)
    device.synchronise()
    expect_held(buffer, bank, 1)


# ---- where the parts lie -------------------------------------------------------------------------------------------


def sizes(**changes: int) -> Sizes:
    """Of a model of 1,000 bytes whose parts are too large to lie on the GPU."""
    parts = {"fixed": 100, "changing": 900, "buffer": 960, "largest": 64, "values": 800}
    return Sizes(**parts | {"positions": 300, "counts": 5, "own": 300} | changes)


def test_with_the_bank_on_the_host_one_model_is_on_the_gpu() -> None:
    placement = place(sizes(), "bind", "host")
    assert placement == Placement(values=False, positions=False, own=False, scratch=0)
    assert sum(gpu_bytes(sizes(), "bind", placement).values()) == 100 + 960 + 5
    assert place(sizes(), "bind", "device") == Placement(values=True, positions=True, own=True, scratch=0)


@pytest.mark.parametrize("switch", ["bind", "refit"])
def test_what_fits_a_tenth_lies_on_the_gpu(switch: str) -> None:
    """Heads before positions; a refit's scratch buffer has taken a tenth already, so that only one of them fits."""
    assert place(sizes(own=95, positions=95), switch, "host").own
    assert place(sizes(own=95, positions=95), switch, "host").positions == (switch == "bind")
    assert place(sizes(own=101, positions=90), switch, "host").positions
    assert not place(sizes(own=101), switch, "host").own


@pytest.mark.parametrize("switch", ["bind", "refit"])
def test_it_never_is_more_than_a_fifth_on_top(switch: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        own, positions = rng.integers(1, 200, 2)
        largest = int(rng.integers(1, 900))  # VGG-16's is three quarters of it
        parts = sizes(own=int(own), positions=int(positions), buffer=900, largest=largest)
        assert sum(gpu_bytes(parts, switch, place(parts, switch, "host")).values()) <= 1200


def test_a_weight_larger_than_a_tenth_has_room_where_memory_is_no_matter() -> None:
    assert place(sizes(largest=700), "refit", "device").scratch == 700
    assert place(sizes(largest=700), "refit", "host").scratch == place(sizes(), "refit", "device").scratch == 100


def test_an_unknown_place() -> None:
    with pytest.raises(UsageError, match="bank: expected one of device, host, got 'disk'"):
        place(sizes(), "bind", "disk")


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_sizes_are_those_of_the_pack_before_it_grew(tmp_path: Path, tasks: int) -> None:
    pack = growing_pack(tmp_path / "p.pack")
    target = ExportOptions(precision="fp16").target(pack)
    before = load_engine_bank(first_tasks(pack, tasks), target, 4)
    assert sizes_of(load_engine_bank(pack, target), tasks) == sizes_of(before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_places_are_aligned_and_apart(dtype: type) -> None:
    """The banked weights come first, whatever their order was."""
    weights = [
        Weight("head", (3,), "fp16", False),
        Weight("a", (5, 3), "fp16", True),
        Weight("b", (129,), "fp16", True),
        Weight("bias", (), "fp16", False),
    ]
    layout = layout_of(weights, np.dtype(dtype))
    assert [slot.weight.name for slot in layout.slots] == ["a", "b", "head", "bias"]
    assert layout.slots[2].start == layout.banked
    ends = [slot.start + slot.weight.count for slot in layout.slots]
    starts = [slot.start for slot in layout.slots]
    assert all(start * layout.dtype.itemsize % ALIGNMENT == 0 for start in starts)
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert ends[-1] <= layout.count
