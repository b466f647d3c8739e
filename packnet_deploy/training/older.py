"""Older tasks while a newer one is trained: that they do not change, and how they do on their test images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from packnet_deploy.errors import CheckFailed
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.training.inference import Errors, errors
from packnet_deploy.training.network import PackedNetwork


@dataclass(frozen=True)
class OlderTask:
    """An older task as the pack on disk has it.

    Attributes:
        private: its head, and what it has in place of task 1's biases and normalisation, by the graph's input names.
        logits: its answer to the probe batch.
    """

    index: int
    private: dict[str, np.ndarray[Any, Any]]
    logits: np.ndarray[Any, Any]


def older_tasks(network: PackedNetwork, pack: Pack | None) -> dict[str, OlderTask]:
    """Every task of the pack, one materialised at a time."""
    if pack is None:
        return {}
    older, packable, shared = {}, {param.name for param in network.packable}, network.as_task(0)
    with pack.opened() as opened:
        for entry in opened.tasks:
            tensors = opened.load_task(entry.name).tensors
            private = {
                name: values
                for name, values in tensors.items()
                if name not in packable and not (name in shared and np.array_equal(values, shared[name]))
            }
            older[entry.name] = OlderTask(entry.index, private, network.logits(probe_batch(network.spec), tensors))
    return older


def changes(network: PackedNetwork, older: Mapping[str, OlderTask]) -> dict[str, float]:
    """How far each older task's probe logits have moved, computed from the live weights.

    Raises:
        CheckFailed: one has moved at all.
    """
    moved = {}
    for name, task in older.items():
        now = network.logits(probe_batch(network.spec), network.as_task(task.index) | task.private)
        moved[name] = float(np.abs(now - task.logits).max())
        if moved[name] != 0:
            raise CheckFailed(
                f"task {name!r}: expected its logits unchanged, they moved by {moved[name]:g}; "
                "the pack is left as it was"
            )
    return moved


def task_errors(network: PackedNetwork, pack: Pack, task: str, batches: Iterable[tuple[Tensor, Tensor]]) -> Errors:
    """Errors of a task of the pack on its test images, run in the network that is being trained.

    Args:
        batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the module's device.
    """
    device = next(network.module.parameters()).device
    tensors = network.torch_tensors(pack.load_task(task).tensors)
    return errors(network.module, batches, {name: tensor.to(device) for name, tensor in tensors.items()})
