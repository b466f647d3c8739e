"""The tables of a report, from the evidence. Errors are percent; every figure says how many runs it is the mean of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from packnet_deploy.experiments.analyses import (
    changes,
    column_errors,
    columns_by_label,
    differences,
    errors_by_moment,
    errors_by_position,
    summary,
)
from packnet_deploy.experiments.paper import PaperFigures
from packnet_deploy.experiments.results import MOMENTS, Errors, Evidence
from packnet_deploy.reports.blocks import Cell, Head, Row, Table

NONE = "-"
_NOTATION = "top-1 error in percent (top-5 in brackets), mean of n runs ± sample standard deviation"
MB = 1e6


def main_table(evidence: Evidence, paper: PaperFigures) -> list[Table]:
    """The paper's shape: a row for each task, a column for each method, sizes below."""
    design = evidence.design
    columns = design["columns"]
    rows = []
    for task in design["tasks"]:
        cells = []
        for column in columns:
            wanted = evidence.trainings(column["key"], task["name"]) if task["data"] else 0
            errors = column_errors(evidence, column["key"], task["name"])
            cell = _errors(errors, wanted, paper.cell("table", column["key"], task["name"]))
            cells.append(cell if task["data"] else replace(cell, note="no images"))
        rows.append(Row(task["label"], tuple(cells)))
    rows.append(Row("Size of the files, MB", tuple(_sizes(evidence, c, "file_bytes", paper) for c in columns), True))
    rows.append(
        Row("Size as the paper counts, MB", tuple(_sizes(evidence, c, "paper_bytes", paper) for c in columns), True)
    )
    note = f"Test images, when all tasks had been trained: {_NOTATION}. "
    note += "The paper counts every weight at 4 bytes and masks at log2 N bits for N tasks."
    return [Table("Errors and sizes", "task", _heads(columns), tuple(rows), _with_source(note, paper.note("table")))]


def paired_tables(evidence: Evidence, paper: PaperFigures) -> list[Table]:
    """Every column against the individual networks of its group, task by task, run by run."""
    labels, columns = _labels(evidence), evidence.design["columns"]
    alone = {column["group"]: column["key"] for column in columns if column["method"] == "individual"}
    rows, tasks = [], [task["name"] for task in evidence.design["tasks"][1:]]
    for column in columns:
        other = alone.get(column["group"], column["key"])
        if other == column["key"] or not (by_task := differences(evidence, column["key"], other)):
            continue
        means = {task: summary(values) for task, values in by_task.items()}
        worst, most = max(((task, s.mean) for task, s in means.items() if s), key=lambda pair: pair[1])
        cells = [_change(by_task.get(task, [])) for task in tasks]
        cells += [_change([v for values in by_task.values() for v in values]), Cell(points(most), labels[worst])]
        rows.append(Row(": ".join(filter(None, (column["group"], column["label"]))), tuple(cells)))
    if not rows:
        return []
    heads = tuple(Head(label) for label in (*(labels[task] for task in tasks), "all", "worst task"))
    note = "A column's top-1 test error less that of the individual network with the same task, order and seed, in "
    note += "points: mean of n pairs ± sample standard deviation of the differences; below 0 the column is better. "
    note += "The worst task is that with the highest mean."
    return [Table("Added tasks against networks of their own, paired", "column", heads, tuple(rows), note)]


def drift_tables(evidence: Evidence, paper: PaperFigures) -> list[Table]:
    """How far the errors of older tasks moved as tasks were added, by method."""
    labels = _labels(evidence)
    by_column = {column["label"]: changes(evidence, column["key"]) for column in evidence.design["columns"]}
    most = max((k for moved in by_column.values() for by_added in moved.values() for k in by_added), default=0)
    if not most:
        return []
    rows = []
    for label, moved in by_column.items():
        for task, by_added in moved.items():
            cells = tuple(_change(by_added.get(k, [])) for k in range(1, most + 1))
            rows.append(Row(f"{label}: {labels[task]}", cells))
    heads = tuple(Head(f"{k} task{'s' if k > 1 else ''} later") for k in range(1, most + 1))
    note = "Change of a task's top-1 test error since the end of its own training, in points: mean of n runs ± sample "
    note += "standard deviation."
    return [Table("Older tasks, as tasks are added", "method: task", heads, tuple(rows), note)]


def order_tables(evidence: Evidence, paper: PaperFigures) -> list[Table]:
    """Errors by a task's place among the added tasks; a table for each column that was trained in several orders."""
    made = []
    labels = _labels(evidence)
    for column in evidence.design["columns"]:
        errors = errors_by_position(evidence, column["key"])
        places = range(1, len(evidence.design["tasks"]))
        if all(len(by_place) < 2 for by_place in errors.values()):
            continue
        rows = tuple(
            Row(
                labels[task],
                tuple(_errors(by_place.get(k, []), None, paper.cell("order", str(k), task)) for k in places),
            )
            for task, by_place in errors.items()
        )
        heads = tuple(Head(f"added {_ordinal(k)}") for k in places)
        note = f"Test images, when all tasks had been trained: {_NOTATION}, over the runs with the task in that place."
        title = f"Errors by place in the order: {column['label']}"
        made.append(Table(title, "task", heads, rows, _with_source(note, paper.note("order"))))
    return made


def ratio_tables(evidence: Evidence, paper: PaperFigures) -> list[Table]:
    """Test errors before pruning, after pruning and after retraining, by the columns' labels."""
    columns = columns_by_label(evidence)
    rows = []
    for task in evidence.design["tasks"]:
        by_label = [errors_by_moment(evidence, keys, task["name"]) for keys in columns.values()]
        if not any(errors for by_moment in by_label for errors in by_moment.values()):
            continue
        cells = []
        for keys, by_moment in zip(columns.values(), by_label, strict=True):
            for moment in MOMENTS:
                known = [paper.cell("ratio", f"{key}-{moment}", task["name"]) for key in keys]
                cells.append(_errors(by_moment[moment], None, next(filter(None, known), "")))
        rows.append(Row(task["label"], tuple(cells)))
    if not rows:
        return []
    heads = tuple(Head(moment, label) for label in columns for moment in MOMENTS)
    note = f"Test images, at the end of each phase: {_NOTATION}."
    return [Table("Before and after pruning", "task", heads, tuple(rows), _with_source(note, paper.note("ratio")))]


def paper_table(evidence: Evidence, paper: PaperFigures) -> list[Table]:
    """The paper's figures alone, for a scale at which they cannot stand beside ours."""
    made = []
    columns = {column["key"]: column["label"] for column in evidence.design["columns"]}
    for view, by_column in paper.views.items():
        there = {row for texts in by_column.values() for row in texts}
        rows = [row for row in _PAPER_ROWS if row in there]
        heads = tuple(Head(columns.get(key) or paper.labels.get(key, key)) for key in by_column)
        body = tuple(
            Row(_PAPER_ROWS[row], tuple(Cell(texts.get(row, NONE)) for texts in by_column.values())) for row in rows
        )
        note = "Not to be compared figure by figure: other network, other images. "
        note += "Figures without a source are left out. "
        made.append(Table("The paper's own figures", "task", heads, body, note + paper.note(view) + "."))
    return made


_PAPER_ROWS = {"imagenet": "ImageNet", "places365": "Places365", "cubs": "CUBS", "cars": "Stanford Cars"}
_PAPER_ROWS |= {"flowers": "Flowers", "size_paper": "Size, MB"}


def _errors(errors: list[Errors], wanted: int | None, paper: str) -> Cell:
    """The cell of some runs' errors; ``wanted`` is shown where fewer are done."""
    found = summary(100 * e.top1 for e in errors)
    if found is None:
        return Cell(NONE, f"n = 0 of {wanted}" if wanted else "", paper)
    fifth = summary(100 * e.top5 for e in errors)
    assert fifth is not None
    short = wanted is not None and found.n < wanted
    counted = f"n = {found.n} of {wanted}" if short else f"n = {found.n}"
    return Cell(f"{found.mean:.2f} ({fifth.mean:.2f})", f"{_spread(found.spread)}{counted}", paper)


def _change(values: list[float]) -> Cell:
    """Some runs' changes of an error, in points, with their sign."""
    found = summary(100 * value for value in values)
    if found is None:
        return Cell(NONE)
    return Cell(points(found.mean / 100), f"{_spread(found.spread)}n = {found.n}")


def points(change: float) -> str:
    """A change of an error, a fraction, in points and with its sign; what rounds to nothing has none."""
    return f"{100 * change:+.2f}" if abs(100 * change) >= 0.005 else "0"


def _sizes(evidence: Evidence, column: Mapping[str, Any], kind: str, paper: PaperFigures) -> Cell:
    found = summary(getattr(result, kind) / MB for _, result in evidence.trials(column["key"]))
    known = paper.cell("table", column["key"], "size_paper") if kind == "paper_bytes" else ""
    return Cell(NONE if found is None else megabytes(found.mean), paper=known)


def megabytes(value: float) -> str:
    """Megabytes to three figures or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def _spread(spread: float | None) -> str:
    """Nothing of a single run."""
    return "" if spread is None else f"± {spread:.2f}, "


def _heads(columns: list[Mapping[str, Any]]) -> tuple[Head, ...]:
    return tuple(Head(column["label"], column["group"]) for column in columns)


def _labels(evidence: Evidence) -> dict[str, str]:
    return {task["name"]: task["label"] for task in evidence.design["tasks"]}


def _ordinal(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"{place}th")


def _with_source(note: str, source: str) -> str:
    return f"{note} The paper's figures: {source}." if source else note
