"""An experiments folder: what ``packnet experiment`` keeps in it, and how far each run has come.

DIR/table2-small.json                          a design: columns, trials, the names of their runs
DIR/runs/packnet-vgg16-cubs-cars-s0-1a2b3c4d/  one run
    recipe.toml                                what ``packnet train`` was given
    tasks.pack, tasks.train/                   what it wrote (``individual``: one pack a task)
    train.log                                  what it printed
    finished.json                              made when it ended well: seconds, threads, versions
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.experiments.design import PACK, Design, Run
from packnet_deploy.pack import Pack
from packnet_deploy.pack.atomic import replacing, staging_folder

RUNS = "runs"
FINISHED = "finished.json"
_TRAIN = PACK.removesuffix(".pack") + ".train"


@dataclass(frozen=True)
class RunFolder:
    """One run's folder; may not exist yet."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def state(self) -> str:
        """``done``, ``partial`` or ``missing``."""
        if (self.path / FINISHED).is_file():
            return "done"
        return "partial" if (self.path / _TRAIN).exists() or self.packs() else "missing"

    def finished(self) -> dict[str, Any]:
        """What was noted when the run ended well."""
        content: dict[str, Any] = json.loads((self.path / FINISHED).read_bytes())
        return content

    def finish(self, note: dict[str, Any]) -> None:
        with replacing(self.path / FINISHED) as file:
            file.write(json.dumps(note, indent=1).encode())

    def packs(self) -> list[Pack]:
        """The packs it wrote, in the order of their tasks' training."""
        return [Pack.open(path) for path in sorted(self.path.glob(f"{Path(PACK).stem}*.pack"), key=_made)]

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of ``log.csv`` or ``results.csv``; none if there is no such file."""
        try:
            with open(self.path / _TRAIN / name, encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            return []

    def prepare(self, recipe: Mapping[str, Any], base: RunFolder | None) -> None:
        """Make the folder with its recipe; a new run begins with the pack of ``base``, whose deltas are linked."""
        import tomli_w

        self.path.mkdir(parents=True, exist_ok=True)
        if base is not None and not (self.path / PACK).exists():
            for name in (_TRAIN, PACK):  # the pack last: once it is there, all is
                target = self.path / name
                shutil.rmtree(target, ignore_errors=True)
                with staging_folder(target) as staging:
                    shutil.copytree(base.path / name, staging / name, copy_function=_link)
                    os.rename(staging / name, target)
        with replacing(self.recipe) as file:
            tomli_w.dump(recipe, file)

    def last_words(self) -> str:
        """The error line that the run ended with, or else the last line that it printed."""
        try:
            lines = [line.strip() for line in self.log.read_text("utf-8", errors="replace").split("\n")]
        except FileNotFoundError:
            return ""
        printed = [line for line in lines if line]
        errors = [line for line in printed if line.startswith("packnet: ")]
        return (errors or printed or [""])[-1]


@dataclass(frozen=True)
class ExperimentsFolder:
    """The folder of some experiments, which share their runs."""

    path: Path

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.path / RUNS / name)

    def of(self, run: Run) -> RunFolder:
        return self.run(run.name)

    def write(self, design: Design) -> None:
        """Keep the design, so that a report knows what belongs together and what is missing."""
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.path / f"{design.experiment.name}-{design.experiment.scale}.json") as file:
            file.write(json.dumps(design.to_json(), indent=1, ensure_ascii=False).encode())

    def designs(self) -> list[dict[str, Any]]:
        """The designs kept here, by name.

        Raises:
            EnvironmentFault: there are none.
            ArtefactError: one is damaged.
        """
        found = []
        for path in sorted(self.path.glob("*.json")):
            try:
                design = json.loads(path.read_bytes())
                found.append({**design, "file": path.stem, "trials": design["trials"], "columns": design["columns"]})
            except (ValueError, TypeError, KeyError) as error:
                raise ArtefactError(f"{path}: not an experiment's design; run: packnet experiment, again") from error
        if not found:
            raise EnvironmentFault(
                f"{self.path}: holds no experiments; run: packnet experiment RECIPE --out {self.path}"
            )
        return found


def _link(source: str, target: str) -> None:
    """No file of a pack or a training folder is ever written in place, so a link is as good as a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _made(pack: Path) -> tuple[float, str]:
    return (pack / "pack.json").stat().st_mtime, pack.name
