"""The buffer of switched weights: what lies at each address is what ``EngineBank.materialise`` says, by the bit.

The kernels are the real ones, compiled for the host; the GPU's memory and stream are stand-ins.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from host_kernels import HostKernels
from stand_in import StandInDevice, at
from stand_in_plans import growing_pack

from packnet_deploy.export.options import ExportOptions
from packnet_deploy.pack import Pack
from packnet_deploy.trt import buffer as buffer_module
from packnet_deploy.trt.bank import EngineBank, Weight, load_engine_bank
from packnet_deploy.trt.buffer import WeightBuffer
from packnet_deploy.trt.layout import ALIGNMENT, layout_of

PRECISIONS = ("fp32", "fp16", "bf16")


def expect_materialised(device: StandInDevice, buffer: WeightBuffer, bank: EngineBank) -> None:
    """Fill in every order of two tasks, so that nothing of the one before is left."""
    names = [task.entry.name for task in bank.tasks]
    for name in (*names, *reversed(names), names[0]):
        buffer.fill(name)
        device.synchronise()
        for weight, expected in bank.materialise(bank.task(name)).items():
            got = at(buffer.addresses[weight], expected.size, expected.dtype)
            np.testing.assert_array_equal(
                got.view(np.uint8), np.ascontiguousarray(expected).reshape(-1).view(np.uint8), f"{name}: {weight}"
            )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("which", ["golden", "own normalisation"])
def test_every_task_by_the_bit(
    host: HostKernels,
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    where: str,
    precision: str,
) -> None:
    monkeypatch.setattr(buffer_module, "CHUNK", 128)  # weights: several chunks to a bank, the last one shorter
    pack = Pack.open(golden) if which == "golden" else growing_pack(tmp_path / "own.pack")
    bank = load_engine_bank(pack, ExportOptions(precision=precision).target(pack))
    assert any(task.ratios for task in bank.tasks) == (which != "golden")
    device = StandInDevice(host)
    expect_materialised(device, WeightBuffer(device, bank, where), bank)
    masks = sum(entry.startswith("mask 1") for entry in device.log) / 3
    assert masks == 1 if where == "device" else masks > 1


def test_a_bank_on_the_host_takes_less_of_the_gpu(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_module, "CHUNK", 128)
    pack = Pack.open(golden)
    bank = load_engine_bank(pack, ExportOptions().target(pack))
    taken = {}
    for where in ("device", "host"):
        device = StandInDevice()
        WeightBuffer(device, bank, where)
        taken[where] = device.allocated
    banked = layout_of(bank.weights, bank.precision.dtype).banked
    assert taken["device"] - taken["host"] == (banked - 128) * (4 + 1)  # values and ranks


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
