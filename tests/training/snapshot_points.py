"""A task's life as numbered points, each reproducible alone, for tests that interrupt it anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from small_networks import SPEC, loss_of, small_module

from packnet_deploy.pack import Pack
from packnet_deploy.training.network import PackedNetwork


def fresh(path: Path | None, pattern: str = "", seed: int = 0) -> PackedNetwork:
    """A network of the pack at ``path``, or a new one."""
    module = small_module(seed)
    return PackedNetwork.resume(Pack.open(path), module) if path else PackedNetwork(module, "10", SPEC, pattern)


def run(network: PackedNetwork, begin: int, end: int, optimizer: Any, separate: tuple[str, ...] = ()) -> Iterator[Any]:
    """Points ``begin`` to ``end`` of a task's life, each reproducible alone; yields the optimiser after each.

    The task begins at 0 and takes one step at every point; it is pruned at 4 and again at 6, and frozen at 8.
    """
    for point in range(begin, end):
        torch.manual_seed(point)
        if point == 0:
            network.begin("task", ["a", "b", "c"], separate=separate)
        elif point in (4, 6):
            network.prune(0.5 if point == 4 else 0.75)
        elif point == 8:
            network.freeze("bfloat16")
        if point in (0, 4, 6):
            make = torch.optim.AdamW(network.trainable_parameters(), lr=0.02, weight_decay=0.1)
            optimizer = network.guarded(make)
        if point < 8:
            network.module.train()
            optimizer.zero_grad()
            loss_of(network.module).backward()
            optimizer.step()
        yield optimizer


POINTS = 9
