"""Several processes training one network (``torchrun``): who am I, and the few things that must be agreed on.

With one process everything here does nothing. Gradients are averaged by DistributedDataParallel in fit.py; only
process 0 writes files.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from packnet_deploy.errors import CheckFailed, EnvironmentFault

TIMEOUT = datetime.timedelta(minutes=30)  # process 0 may be writing a large pack while the others wait


@dataclass(frozen=True)
class World:
    """This process among its fellows."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


def world() -> World:
    """As ``joined`` has set it up, or a single process."""
    return World(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else World()


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    Raises:
        EnvironmentFault: the others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield world()
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise EnvironmentFault(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: the other processes cannot be reached ({error}); "
            "start with: torchrun --nproc-per-node N -m packnet_deploy train ..."
        ) from error
    try:
        yield world()
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process is here."""
    if dist.is_initialized():
        dist.barrier()


def summed(numbers: Sequence[float]) -> list[float]:
    """The sums over all processes."""
    if not dist.is_initialized():
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64, device=_device())
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def summed_tensor(tensor: Tensor) -> Tensor:
    """The sum over all processes; the same bits in each of them."""
    if not dist.is_initialized():
        return tensor
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def gathered(value: Any) -> list[Any]:
    """Every process's value, by rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def share_buffers(module: nn.Module) -> None:
    """Process 0's buffers for all: running statistics differ, because each process has seen its own images."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def parallel(module: nn.Module) -> nn.Module:
    """``module``, or where there are several processes its wrapper that averages gradients."""
    if not dist.is_initialized():
        return module
    return nn.parallel.DistributedDataParallel(module)


def require_same_owners(owners: Mapping[str, Tensor]) -> None:
    """Before a freeze: every process must have come to the same owner maps.

    Raises:
        CheckFailed: they differ.
    """
    if not dist.is_initialized():
        return
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(owners):
        digest.update(owners[name].cpu().contiguous().numpy().data)
    hashes = gathered(digest.hexdigest())
    if len(set(hashes)) > 1:
        raise CheckFailed(
            "owner maps: expected the same in every process, got "
            + ", ".join(f"{value[:12]} in process {rank}" for rank, value in enumerate(hashes))
            + "; nothing was frozen; check that all processes run the same versions on the same hardware"
        )


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
