"""NOT a trainer: writes the files `packnet train RECIPE --resume` writes, with made-up figures, in a moment.

For testing what runs and reads runs. Errors are functions of method, task, seed and stage alone, so that a test can
say what a report must hold: see ``error``. ``STAND_IN_FAIL`` in the environment names a task that fails,
``STAND_IN_SECONDS`` how long an epoch takes.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from packnet_deploy.pack import Backbone, InputSpec, NewTask, Pack, ParamSpec, append_task, bank_sha256, create_pack
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import read_recipe
from packnet_deploy.training.train_folder import TrainFolder

PARAMS = (ParamSpec("conv.weight", (4, 3, 3, 3)), ParamSpec("fc.weight", (8, 16)))
SPEC = InputSpec((3, 8, 8), (0.5,) * 3, (0.25,) * 3, 8)
HEAD, SHARED = 3 * 16, 5  # weights of a head and of what task 1 shares
OWNING = ("packnet", "filter-pruning")  # methods whose added tasks own weights
BASE = {
    "packnet": 0.2, "classifier-only": 0.5, "head-and-norm": 0.4, "individual": 0.15, "lwf": 0.25, "joint": 0.3,
    "filter-pruning": 0.28,
}  # fmt: skip


def error(method: str, index: int, later: int, seed: int) -> float:
    """Top-1 error of task ``index`` (from 1) when ``later`` tasks have followed: only LwF forgets."""
    return round(BASE[method] + 0.01 * index + 0.02 * seed + (0.05 * later if method == "lwf" else 0.0), 6)


def main(recipe: Path) -> None:
    tasks = read_recipe(recipe)
    pack = tasks[0].pack
    assert pack is not None
    folder = TrainFolder.beside(pack)
    folder.write_tasks(tasks)
    for index, options in enumerate(tasks, start=1):
        place = pack.with_name(f"{pack.stem}-{options.task}.pack") if options.method == "individual" else pack
        if place.exists() and any(entry.name == options.task for entry in Pack.open(place).tasks):
            continue
        for phase, epochs in (("train", options.epochs), ("retrain", options.retrain_epochs)):
            for epoch in range(1, epochs + 1):
                time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
                folder.log().put([(options.task, phase, epoch, options.lr, 1.0, 0.5, 0.2, 0.01, 100.0)])
        if os.environ.get("STAND_IN_FAIL") == options.task:
            sys.exit(f"packnet: train: the loss is nan at step 1 of epoch 1, learning rate {options.lr:g}")
        grow(place, options, index)
        measured = [(number, t) for number, t in enumerate(tasks[:index], start=1) if t.data is not None]
        folder.results().put(
            (options.task, t.task, top1, top1 / 10)
            for number, t in measured
            for top1 in [error(t.method, number, index - number, t.seed)]
        )


def grow(place: Path, options: TrainOptions, index: int) -> None:
    alone = options.method == "individual"
    mine = 1 if alone else index
    owners = {param.name: np.zeros(param.shape, np.uint8) for param in PARAMS}
    for owner in owners.values():
        flat = owner.reshape(-1)
        if options.method in OWNING:
            for task in range(1, mine + 1):  # a quarter of what is free, each
                free = np.flatnonzero(flat == 0)
                flat[free[: len(free) // 4]] = task
        else:
            flat[:] = 1
    weights = {param.name: np.ones(param.shape, np.float32) for param in PARAMS}
    shared = {"conv.bias": np.zeros(SHARED, np.float32)}
    top1 = error(options.method, index, 0, options.seed)
    moments = {"trained": top1 - 0.01, "pruned": top1 + 0.3, "retrained": top1}
    errors = {name: {"val": [value, value / 10], "test": [value, value / 10]} for name, value in moments.items()}
    warned = {"warnings": ["it collapsed"]} if options.prune_rate == 0.99 else {}
    task = NewTask(
        name=options.task,
        classes=("a", "b", "c"),
        owners=owners,
        weights=weights,
        head={"weight": np.zeros((3, 15), np.float32), "bias": np.zeros(3, np.float32)},
        probe_logits=np.zeros((4, 3), np.float32),
        frozen_sha256=bank_sha256(PARAMS, weights, owners, shared, mine - 1),
        shared=shared if mine == 1 else {},
        report={"errors": errors, **warned} if options.data is not None else {},
    )
    if mine == 1:
        create_pack(place, Backbone(options.arch or "custom", "fc"), SPEC, b"no graph", PARAMS, task)
    else:
        append_task(Pack.open(place), task)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
