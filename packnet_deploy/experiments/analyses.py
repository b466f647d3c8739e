"""What the paper's figures show, computed from runs' results: plain mappings to lists of values, one a run.

Tables and figures both start here, so that they cannot disagree. Errors are fractions 0..1. The spread of a mean is the
sample standard deviation; one trial has none.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from packnet_deploy.experiments.results import MOMENTS, Errors, Evidence


def column_errors(evidence: Evidence, column: str, task: str) -> list[Errors]:
    """The task's errors when all tasks had been trained; one value a training of it."""
    measured = [(evidence.source(trial, task), result.final) for trial, result in evidence.trials(column)]
    return list({source: final[task] for source, final in measured if task in final}.values())


def changes(evidence: Evidence, column: str) -> dict[str, dict[int, list[float]]]:
    """By task, and by the number of tasks added since: its top-1 error then, less that after its own training.

    Differences within a run, so that orders in which a task came early or late do not blur them. None for individual
    networks, to which nothing is added.
    """
    if any(entry["method"] == "individual" for entry in evidence.design["columns"] if entry["key"] == column):
        return {}
    found: dict[str, dict[int, list[float]]] = {}
    for task in (entry["name"] for entry in evidence.design["tasks"]):
        for _, result in evidence.trials(column):
            order = list(result.stages)
            if task not in order or task not in result.stages[task]:
                continue
            own, later = result.stages[task][task], order[order.index(task) + 1 :]
            for added, stage in enumerate(later, start=1):
                if (then := result.stages[stage].get(task)) is not None:
                    found.setdefault(task, {}).setdefault(added, []).append(then.top1 - own.top1)
    return found


def differences(evidence: Evidence, column: str, other: str) -> dict[str, list[float]]:
    """By added task: the column's final top-1 error less the other's, for each order and seed that both have."""
    there = {(tuple(trial["order"]), trial["seed"]): result.final for trial, result in evidence.trials(other)}
    found: dict[str, list[float]] = {}
    for task in (entry["name"] for entry in evidence.design["tasks"][1:]):
        for trial, result in evidence.trials(column):
            final = there.get((tuple(trial["order"]), trial["seed"]), {})
            if task in result.final and task in final:
                found.setdefault(task, []).append(result.final[task].top1 - final[task].top1)
    return found


def errors_by_position(evidence: Evidence, column: str) -> dict[str, dict[int, list[Errors]]]:
    """By added task, and by its place among the added tasks (from 1): its final errors."""
    found: dict[str, dict[int, list[Errors]]] = {}
    for task in (entry["name"] for entry in evidence.design["tasks"][1:]):
        for trial, result in evidence.trials(column):
            if task in trial["order"] and task in result.final:
                place = trial["order"].index(task) + 1
                found.setdefault(task, {}).setdefault(place, []).append(result.final[task])
    return found


def columns_by_label(evidence: Evidence) -> dict[str, list[str]]:
    """The columns of each label: the same rate, say, of added tasks and of the first task alone."""
    found: dict[str, list[str]] = {}
    for column in evidence.design["columns"]:
        found.setdefault(column["label"], []).append(column["key"])
    return found


def errors_by_moment(evidence: Evidence, columns: Iterable[str], task: str) -> dict[str, list[Errors]]:
    """The task's test errors when trained, pruned and retrained, in the trials of these columns that are about it.

    The first task's are those of trials without another: where tasks are added to it, they are what is compared, and
    it has been pruned by a rate that is the same for all.
    """
    trials = [found for column in columns for found in evidence.trials(column)]
    about = [result for trial, result in trials if task in trial["order"] or not trial["order"]]
    measured = [result.moments.get(task, {}) for result in about]
    return {moment: [one[moment] for one in measured if moment in one] for moment in MOMENTS}


@dataclass(frozen=True)
class Summary:
    """``n`` values: their mean, and their sample standard deviation (None for one value)."""

    n: int
    mean: float
    spread: float | None


def summary(values: Iterable[float]) -> Summary | None:
    """The summary of the values; None where there are none."""
    found = list(values)
    if not found:
        return None
    return Summary(len(found), statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None)
