"""The ways in which an engine becomes another task, each for one lane (lane.py). They only enqueue.

===========  =============================================================================================
``refit``    TensorRT is given the weights that differ, in groups, out of a small buffer (refit.py)
``bind``     the difference is written into the weight buffer, which is the engine's input
``selector`` the task's index is written, which is the engine's input
``none``     nothing: the plan is of one task
===========  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from packnet_deploy.runners.contract import TASK
from packnet_deploy.trt.buffer import PlacedBank, WeightBuffer
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.loader import LoadedEngine


class Switch:
    """A way to another task; this one leads nowhere, as for a plan of one task.

    Attributes:
        inputs: the addresses of the engine's inputs that hold the task, by name.
        replaces_weights: the engine's own weights change, so that a failure may leave it between two tasks.
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

    def to(self, task: int) -> None:
        """Enqueue the switch to the task of this index.

        Raises:
            ArtefactError: TensorRT refuses it. The engine may hold some of the weights by then: it must go.
        """

    def forget(self) -> None:
        """What was enqueued may not have been done: the next switch takes nothing for granted."""


class Bind(Switch):
    """The engine reads its weights where they are; writing the buffer is all."""

    def __init__(self, device: Device, bank: PlacedBank) -> None:
        self._buffer = WeightBuffer(device, bank)
        self.inputs = self._buffer.addresses

    def to(self, task: int) -> None:
        self._buffer.fill(task)

    def forget(self) -> None:
        self._buffer.forget()


class Select(Switch):
    """The engine masks its weights at each run; it is told the task's index."""

    def __init__(self, device: Device, tasks: int) -> None:
        self._device, self._address = device, device.allocate(4)
        self._indices = np.arange(tasks + 1, dtype=np.int32)  # kept: a copy reads one when the stream comes to it
        self.inputs = {TASK: self._address}

    def to(self, task: int) -> None:
        self._device.upload(self._address, self._indices[task : task + 1])
