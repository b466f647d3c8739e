"""From a recipe to runs. A run is one method, one order, one seed: exactly one recipe for ``packnet train``.

Runs are named by what they do, so that experiments kept in one folder share those they have in common. What
determines a run's result goes into its hash: every option that differs from its default, and the names of images
and weights as the recipe spells them. What lies under these names does not, nor does this package's version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from packnet_deploy.experiments.recipe import Column, Experiment, Order, Task
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import tasks_from

PACK = "tasks.pack"
# A pack that grows task by task, so that runs may begin with the same first task, trained once.
GROWING = ("packnet", "classifier-only", "head-and-norm", "filter-pruning")
_NO_RESULT = ("device", "workers")  # options that say where and how fast, not what comes out
_FIELDS = {f.name for f in fields(TrainOptions)}
_DECIDING = ("protocol", "max_drop", "tasks_to_come", "last")  # what other options' defaults depend on
_WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One training, of ``tasks`` in order: their options, ``name``, ``data`` and ``seed`` among them.

    Attributes:
        base: a run of the first task alone whose pack this one continues.
    """

    tasks: tuple[Options, ...]
    base: Run | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """Eight hex digits of a sha256 over all that determines the result."""
        chosen = [
            {k: v for k, v in task.items() if k not in _NO_RESULT and (k in _DECIDING or v != _default(task, k))}
            for task in self.tasks
        ]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """The folder's name: method, network, added tasks in order (the first alone if there are none), seed, hash."""
        last = self.tasks[-1]
        added = self.tasks[0 if self.tasks[0].get("start") == "network" else 1 :]
        names = [task["name"] for task in added] or [last["name"]]
        arch = str(last.get("arch") or "default")
        return "-".join((last.get("method", TrainOptions.method), arch, *names, f"s{last['seed']}", self.digest))

    @property
    def epochs(self) -> int:
        """How many epochs the recipe asks for, a measure of the work."""
        return sum(_value(task, "epochs") + _value(task, "retrain_epochs") for task in self.tasks)

    def recipe(self, root: Path) -> dict[str, Any]:
        """The training recipe, images and weights found under ``root`` where they are relative paths."""
        tasks = [{"name": task["name"], **self._own(task, root)} for task in self.tasks]
        shared = {
            key: value for key, value in tasks[0].items() if key != "name" and all(t.get(key) == value for t in tasks)
        }
        own = [{key: value for key, value in task.items() if key not in shared} for task in tasks]
        return {"pack": PACK, **shared, "task": own}

    @staticmethod
    def _own(task: Options, root: Path) -> dict[str, Any]:
        places = {"data": dataset_under, "reference": dataset_under, "weights": weights_under}
        return {key: places[key](value, root) if key in places else value for key, value in task.items()}


@dataclass(frozen=True)
class Trial:
    """A run in its column; n trials of a column give its mean and spread.

    Attributes:
        first: names the training that the first task's figures come from: one that several runs share counts once.
    """

    column: str
    order: Order
    seed: int
    run: Run
    first: str


@dataclass(frozen=True)
class Design:
    """An experiment's trials, and the runs they need: each once, a first task's before those that build on it."""

    experiment: Experiment
    trials: tuple[Trial, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        needed: dict[str, Run] = {}
        for trial in self.trials:
            for run in (trial.run.base, trial.run):
                if run is not None:
                    needed.setdefault(run.name, run)
        return tuple(needed.values())

    def to_json(self) -> dict[str, Any]:
        """What a report has to know, in types that ``json.dumps`` takes."""
        chosen = self.experiment
        return {
            "experiment": chosen.name,
            "scale": chosen.scale,
            "title": chosen.title,
            "about": chosen.about,
            "paper": chosen.paper,
            "views": list(chosen.views),
            "tasks": [{"name": t.name, "label": t.label, "data": t.data} for t in chosen.tasks],
            "columns": [{"key": c.key, "label": c.label, "group": c.group, "method": c.method} for c in chosen.columns],
            "trials": [
                {"column": t.column, "order": list(t.order), "seed": t.seed, "run": t.run.name, "first": t.first}
                for t in self.trials
            ],
        }


def design_of(experiment: Experiment, where: str) -> Design:
    """The design of an experiment; ``where`` names its recipe in messages.

    Raises:
        UsageError: ``packnet train`` would refuse one of the runs' recipes.
    """
    trials = tuple(trial for column in experiment.columns for trial in _trials(experiment, column))
    for trial in trials:
        document = {"task": [dict(task) for task in trial.run.tasks]}
        tasks_from(document, f"{where}: column.{trial.column}, {' then '.join(trial.order) or 'none added'}")
    return Design(experiment, trials)


def _trials(experiment: Experiment, column: Column) -> Iterator[Trial]:
    tasks = {task.name: task for task in experiment.tasks}
    first = experiment.tasks[0]
    for order, seed in column.trials:
        added = [_options(experiment, column, tasks[name], seed) for name in order]
        if experiment.network_first:  # which training itself puts before the others
            run = Run(({**added[0], "start": "network"}, *added[1:]))
            yield Trial(column.key, order, seed, run, first=run.name)
            continue
        shares = column.method in GROWING  # then all seeds begin with the first seed's first task
        start = _options(experiment, column, first, column.trials[0][1] if shares and order else seed)
        trained = _value(start, "epochs") + _value(start, "retrain_epochs") > 0
        alone = Run((start,))
        run = Run((start, *added), base=alone if shares and trained and order else None)
        is_alone = shares or column.method == "individual"  # what follows does not change the first task
        yield Trial(column.key, order, seed, run, first=alone.name if is_alone else run.name)


def _options(experiment: Experiment, column: Column, task: Task, seed: int) -> Options:
    is_first = task.name == experiment.tasks[0].name
    data = {"data": task.data} if task.data is not None else {}
    part = column.first if is_first else column.added
    own = {**experiment.common, **task.options, **column.options, **part}
    return {"name": task.name, **data, **own, "seed": seed}


def dataset_under(uri: str, root: Path) -> str:
    """The URI with a relative folder looked for under ``root``; ``builtin:`` sets, and none, lie nowhere."""
    kind, colon, folder = uri.rpartition(":")
    return (
        uri if kind == "builtin" or uri == "none" else f"{kind}{colon}{(root / Path(folder).expanduser()).absolute()}"
    )


def weights_under(weights: str, root: Path) -> str:
    """A state-dict file looked for under ``root``; names that torchvision knows stay as they are."""
    is_file = weights.endswith(_WEIGHT_SUFFIXES)
    return str((root / Path(weights).expanduser()).absolute()) if is_file else weights


def missing_files(runs: Sequence[Run], root: Path) -> list[str]:
    """Folders and weight files that the runs name and that are not there, each once."""
    named = {dataset_under(t["data"], root).rpartition(":")[2] for r in runs for t in r.tasks if _has_folder(t)}
    named |= {
        weights_under(t["weights"], root)
        for run in runs
        for t in run.tasks
        if t.get("weights", "").endswith(_WEIGHT_SUFFIXES)
    }
    return sorted(path for path in named if not Path(path).exists())


def _has_folder(task: Options) -> bool:
    return "data" in task and not task["data"].startswith("builtin:")


def _value(task: Options, key: str) -> Any:
    return task.get(key, _default(task, key))


def _default(task: Options, key: str) -> Any:
    """What an option of ``task`` is where it is not given."""
    if key not in _FIELDS:
        return None
    default = getattr(TrainOptions(**{name: task[name] for name in _DECIDING if name in task}), key)
    return list(default) if isinstance(default, tuple) else default
