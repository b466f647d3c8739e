"""The four ways in which an engine becomes another task. Each only enqueues; ``Engine`` drains the stream around it.

===========  =============================================================================
``refit``    mask the bank into the weight buffer, then let TensorRT take the weights from it
``bind``     mask the bank into the weight buffer, which is the engine's input
``selector`` write the task's index, which is the engine's input
``none``     nothing: the plan is of one task
===========  =============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from packnet_deploy.runners.contract import TASK
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.buffer import WeightBuffer
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.loader import DATA_TYPES, LoadedEngine
from packnet_deploy.trt.sidecar import PlanTask, Sidecar


class Switch:
    """A way to another task; this one leads nowhere, as for a plan of one task.

    Attributes:
        inputs: the addresses of the engine's inputs that hold the task, by name.
        replaces_weights: the engine's own weights change, with whatever was captured of them.
    """

    inputs: Mapping[str, int] = {}
    replaces_weights = False

    def attach(self, loaded: LoadedEngine) -> None:
        """Make ready for an engine that was just loaded.

        Raises:
            ArtefactError: it is not the engine that its sidecar describes.
        """

    def detach(self) -> None:
        """Let go of that engine; twice is harmless."""

    def to(self, task: str) -> None:
        """Enqueue the switch.

        Raises:
            ArtefactError: TensorRT refuses it. The engine may hold some of the weights by then: it must go.
        """


def switch_of(sidecar: Sidecar, device: Device, bank: EngineBank | None, where: str) -> Switch:
    """The sidecar's way, its memory taken.

    Args:
        bank: for ``refit`` and ``bind``.
        where: the bank's place, ``device`` or ``host``.
    """
    if sidecar.switch == "selector":
        return Select(device, sidecar.tasks)
    if bank is None:
        return Switch()
    buffer = WeightBuffer(device, bank, where)
    return Refit(device, buffer, sidecar) if sidecar.switch == "refit" else Bind(buffer)


class Refit(Switch):
    """TensorRT copies the weights out of the buffer into its own; it is told their addresses once."""

    replaces_weights = True

    def __init__(self, device: Device, buffer: WeightBuffer, sidecar: Sidecar) -> None:
        self._device, self._buffer, self._weights = device, buffer, sidecar.weights
        self._attached: tuple[LoadedEngine, Any] | None = None

    def attach(self, loaded: LoadedEngine) -> None:
        api = loaded.api
        refitter = api.Refitter(loaded.engine, loaded.logger)
        known, ours = set(refitter.get_all_weights()), {weight.name for weight in self._weights}
        if known != ours:
            odd = ", ".join(sorted(known ^ ours)[:3])
            raise loaded.failure(
                f"expected the engine to take the {len(ours)} weights that its sidecar names, it takes {len(known)} "
                f"(not in both: {odd})"
            )
        for weight in self._weights:
            kind = getattr(api.DataType, DATA_TYPES[weight.dtype])
            expected = refitter.get_weights_prototype(weight.name)
            if (expected.dtype, expected.size) != (kind, weight.count):
                raise loaded.failure(
                    f"weight '{weight.name}': the sidecar has {weight.count:,} of {weight.dtype}, the engine "
                    f"{expected.size:,} of {expected.dtype}"
                )
            given = api.Weights(kind, self._buffer.addresses[weight.name], weight.count)
            if not refitter.set_named_weights(weight.name, given, api.TensorLocation.DEVICE):
                raise loaded.failure(f"TensorRT refuses weight '{weight.name}'")
        if missing := refitter.get_missing_weights():
            raise loaded.failure(f"TensorRT wants weights besides those of its sidecar: {', '.join(missing[:3])}")
        self._attached = loaded, refitter

    def detach(self) -> None:
        self._attached = None

    def to(self, task: str) -> None:
        if self._attached is None:
            raise RuntimeError("Refit.to: attach an engine first")
        loaded, refitter = self._attached
        self._buffer.fill(task)
        if not refitter.refit_cuda_engine_async(self._device.stream):
            raise loaded.failure(f"TensorRT cannot give the engine the weights of task '{task}'")


class Bind(Switch):
    """The engine reads its weights where they are; writing the buffer is all."""

    def __init__(self, buffer: WeightBuffer) -> None:
        self.inputs = buffer.addresses
        self._buffer = buffer

    def to(self, task: str) -> None:
        self._buffer.fill(task)


class Select(Switch):
    """The engine masks its weights at each run; it is told the task's index."""

    def __init__(self, device: Device, tasks: tuple[PlanTask, ...]) -> None:
        self._device, self._address = device, device.allocate(4)
        self._indices = {task.name: np.array([task.index], np.int32) for task in tasks}
        self.inputs = {TASK: self._address}

    def to(self, task: str) -> None:
        self._device.upload(self._address, self._indices[task])
