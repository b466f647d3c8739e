"""The switching kernels on a real GPU: numpy's bits, from the device's bank and from the host's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stand_in_plans import growing_pack

from packnet_deploy.export.options import ExportOptions
from packnet_deploy.gpu_report.sheet import Sheet
from packnet_deploy.gpu_report.switching import switching
from packnet_deploy.trt.bank import load_engine_bank
from packnet_deploy.trt.buffer import PlacedBank, WeightBuffer
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.placement import place, sizes_of


@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_buffer_holds_what_materialise_gives(tmp_path: Path, precision: str, where: str) -> None:
    pack = growing_pack(tmp_path / "p.pack")
    bank = load_engine_bank(pack, ExportOptions(precision=precision).target(pack))
    device = Device(expect_gpu("this test"))
    try:
        device.load_kernels()
        buffer = WeightBuffer(device, PlacedBank(device, bank, place(sizes_of(bank), "bind", where)))
        for task in (*bank.tasks, bank.tasks[0]):
            buffer.fill(task.entry.index)
            for name, expected in bank.materialise(task).items():
                got = np.empty_like(expected)
                device.download(got, buffer.addresses[name])
                device.synchronise()
                assert got.tobytes() == expected.tobytes(), name
    finally:
        device.close()


def test_the_reports_section_agrees(tmp_path: Path) -> None:
    section = switching(tmp_path, Sheet(tmp_path / "rows"))
    assert [cells[2] for cells in section.rows] == ["yes"] * 6, section.rows
