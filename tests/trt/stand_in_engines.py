"""Engines that stand-ins for TensorRT and the GPU run (stand_in.py says what that shows, and what not)."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in import (
    GPU,
    STREAM,
    StandInDevice,
    StandInTensorRT,
)
from stand_in_plans import SHARES, first_tasks, growing_pack, write_plan

from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.pack import probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.layout import layout_of

TASKS = tuple(SHARES)


class Bench:
    """A pack, a plan of it, and engines that stand-ins run."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pack = growing_pack(folder / "tiny.pack")
        self.plan = folder / "tiny.plan"
        self.images = probe_batch(self.pack.input)
        self._monkeypatch = monkeypatch

    def load(
        self,
        switch: str,
        *,
        built_with: int = 3,
        bank: str = "host",
        cuda_graph: bool = False,
        resident: int = 1,
        **plan,
    ) -> Engine:
        """Write a plan of the pack's first tasks, and load it with the whole pack."""
        write_plan(self.plan, first_tasks(self.pack, built_with), switch, **plan)
        return self.load_again(switch, bank=bank, cuda_graph=cuda_graph, resident=resident)

    def load_again(self, switch: str, **options) -> Engine:
        self.devices = [StandInDevice(stream=STREAM + lane) for lane in range(max(1, options.get("resident", 1)))]
        self.device = self.devices[0]
        self.trt = StandInTensorRT(self.device, switch)
        self.trt.others = self.devices[1:]
        opened = iter(self.devices)
        self._monkeypatch.setattr(engine_module, "load_flavour", lambda name: self.trt.flavour)
        self._monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose, index=0: GPU)
        self._monkeypatch.setattr(engine_module, "Device", lambda gpu, index=0: next(opened))
        return Engine.load(self.plan, self.pack, **options)

    def own_count(self, bank: EngineBank) -> int:
        """Weights that a task brings whole, gaps included."""
        layout = layout_of(bank.weights, bank.precision.dtype)
        return layout.count - layout.banked

    def expect(self, engine: Engine, task: str, precision: str = "fp32") -> None:
        """The engine's logits of the probe batch are those of the pack."""
        expected = self.pack.load_task(task).probe_logits
        difference = compare(engine.infer(self.images), expected, PRECISIONS[precision].tolerance)
        assert difference.passes, f"{task}: {difference}"
