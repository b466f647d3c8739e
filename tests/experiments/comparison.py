"""A recipe to change, and running its design by the stand-in trainer."""

from __future__ import annotations

import sys
from pathlib import Path

import stand_in_trainer

from packnet_deploy.experiments.design import Design, Run
from packnet_deploy.experiments.folder import ExperimentsFolder
from packnet_deploy.experiments.runner import Outcome, execute

STAND_IN = (sys.executable, stand_in_trainer.__file__)
RECIPE = """
title = "A comparison"
paper = "table2"
views = ["table", "bars", "paired", "drift", "order", "ratio", "ownership"]
[column.packnet-75]
label = "PackNet"
[column.lwf]
label = "LwF"
method = "lwf"
retrain_epochs = 0
[column.individual]
label = "Individual"
method = "individual"
retrain_epochs = 0
orders = "given"
[scale.small]
tasks = ["imagenet", "birds", "cars"]
orders = "all"
seeds = [0, 1]
[scale.small.options]
arch = "quickstart"
epochs = 2
milestones = []
retrain_epochs = 1
[scale.small.task.imagenet]
data = "builtin:letters"
[scale.small.task.birds]
label = "Birds"
data = "builtin:digits"
[scale.small.task.cars]
label = "Cars"
data = "builtin:textures"
"""


class Quiet:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, run: Run) -> None:
        self.lines.append(f"started {run.name}")

    def going(self, run: Run, epochs: int, seconds: float) -> None:
        pass

    def ended(self, outcome: Outcome) -> None:
        self.lines.append(f"ended {outcome.run.name} {outcome.code}")


def run_all(design: Design, out: ExperimentsFolder, runs: int | None = None) -> list[Outcome]:
    """Run a design's first ``runs`` runs by the stand-in, and keep the design."""
    out.write(design)
    return execute(design.runs[:runs], out, Path(), Quiet(), jobs=2, trainer=STAND_IN)
