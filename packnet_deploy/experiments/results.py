"""What a finished run left behind, read from its files: results.csv and its packs. Nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from packnet_deploy.errors import ArtefactError
from packnet_deploy.experiments.folder import ExperimentsFolder, RunFolder
from packnet_deploy.experiments.paper import paper_bytes
from packnet_deploy.pack import LayerCapacity, Pack
from packnet_deploy.pack.manifest import GRAPH_FILE, MANIFEST_FILE
from packnet_deploy.training.report import warnings_of

MOMENTS = ("trained", "pruned", "retrained")
_DIGITS = 6  # of an error: finer than one image in any test set; rows come with more or fewer


class Errors(NamedTuple):
    """Fractions 0..1 of test images misjudged."""

    top1: float
    top5: float


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    Attributes:
        stages: after each task's training (its name, in order), the errors of every task measured then.
        moments: by task, its test errors when ``trained``, ``pruned`` and ``retrained``, as far as there are.
        warnings: by task, what its training warned of; tasks without a warning left out.
        layers: who owns how much of every packable parameter; empty where the run wrote a pack for each task.
        file_bytes: of all its packs. ``paper_bytes``: the same networks, counted as the paper counts.
    """

    stages: Mapping[str, Mapping[str, Errors]]
    moments: Mapping[str, Mapping[str, Errors]]
    warnings: Mapping[str, tuple[str, ...]]
    owners: tuple[str, ...]
    layers: tuple[LayerCapacity, ...]
    file_bytes: int
    paper_bytes: float
    seconds: float

    @property
    def final(self) -> dict[str, Errors]:
        """Every task's errors when all tasks had been trained: those measured last."""
        return {task: errors for measured in self.stages.values() for task, errors in measured.items()}


@dataclass(frozen=True)
class Evidence:
    """An experiment's design beside the results of those of its runs that are done."""

    design: Mapping[str, Any]
    results: Mapping[str, RunResult]

    @property
    def missing(self) -> list[str]:
        """Names of the runs that are not done, each once."""
        names = dict.fromkeys(trial["run"] for trial in self.design["trials"])
        return [name for name in names if name not in self.results]

    def trials(self, column: str) -> list[tuple[Mapping[str, Any], RunResult]]:
        """The column's trials that are done, with their results."""
        return [
            (trial, self.results[trial["run"]])
            for trial in self.design["trials"]
            if trial["column"] == column and trial["run"] in self.results
        ]

    def source(self, trial: Mapping[str, Any], task: str) -> str:
        """Which training a trial's figures for ``task`` come from; the first task's may serve many trials."""
        return str(trial["first"] if task == self.design["tasks"][0]["name"] else trial["run"])

    def trainings(self, column: str, task: str) -> int:
        """How many trainings of this task the column has in all."""
        first = self.design["tasks"][0]["name"]
        mine = [t for t in self.design["trials"] if t["column"] == column and task in (first, *t["order"])]
        return len({self.source(trial, task) for trial in mine})


def gather(folder: ExperimentsFolder, design: Mapping[str, Any]) -> Evidence:
    """Read the results of a design's runs that are done."""
    methods = {column["key"]: column["method"] for column in design["columns"]}
    results: dict[str, RunResult] = {}
    for trial in design["trials"]:
        run = folder.run(trial["run"])
        if trial["run"] not in results and run.state == "done":
            results[trial["run"]] = read_run(run, methods[trial["column"]])
    return Evidence(design, results)


def read_run(run: RunFolder, method: str) -> RunResult:
    """One finished run's result.

    Raises:
        ArtefactError: a file is damaged or not there.
    """
    packs = run.packs()
    if not packs:
        raise ArtefactError(f"{run.path}: finished, but its packs are gone; delete the folder and run it again")
    reports = {name: report for pack in packs for name, report in _reports(pack).items()}
    alone = packs[0] if len(packs) == 1 else None
    return RunResult(
        stages=_stages(run),
        moments={name: _moments(report) for name, report in reports.items()},
        warnings={name: lines for name, report in reports.items() if (lines := warnings_of(report))},
        owners=tuple(entry.name for entry in alone.tasks) if alone else (),
        layers=alone.capacity() if alone else (),
        file_bytes=sum(map(file_bytes, packs)),
        paper_bytes=sum(paper_bytes(pack, by_filter=method == "filter-pruning") for pack in packs),
        seconds=float(run.finished()["seconds"]),
    )


def file_bytes(pack: Pack) -> int:
    """Bytes of all files of the pack: deltas, graph, manifest."""
    others = sum((pack.path / name).stat().st_size for name in (GRAPH_FILE, MANIFEST_FILE))
    return others + sum(entry.bytes for entry in pack.tasks)


def _stages(run: RunFolder) -> dict[str, dict[str, Errors]]:
    stages: dict[str, dict[str, Errors]] = {}
    try:
        for row in run.rows("results.csv"):
            errors = Errors(*(round(float(row[name]), _DIGITS) for name in ("top1_error", "top5_error")))
            if not math.isnan(errors.top1):
                stages.setdefault(row["stage"], {})[row["task"]] = errors
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{run.path}: results.csv is damaged ({error}); delete the folder and run it again"
        ) from error
    return stages


def _reports(pack: Pack) -> dict[str, Mapping[str, Any]]:
    with pack.opened() as opened:
        return {entry.name: opened.header(entry.name).report for entry in opened.tasks}


def _moments(report: Mapping[str, Any]) -> dict[str, Errors]:
    """A delta's report is free JSON; what is not as training writes it counts as not measured."""
    errors = report.get("errors")
    found: dict[str, Errors] = {}
    for moment in MOMENTS:
        measured = errors.get(moment) if isinstance(errors, Mapping) else None
        pair = measured.get("test") if isinstance(measured, Mapping) else None
        if isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(x, int | float) for x in pair):
            found[moment] = Errors(*map(float, pair))
    return found
