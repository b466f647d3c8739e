"""Figures: what is plotted can be seen, whatever the figures are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from packnet_deploy.experiments import figures
from packnet_deploy.experiments.results import Errors, Evidence, RunResult
from packnet_deploy.pack import LayerCapacity
from packnet_deploy.reports.blocks import Picture

Draw = Callable[[Evidence], list[Picture]]
TASKS = ("imagenet", "birds", "cars", "flowers")
# Tasks far apart, in either order; some that fall apart when they are pruned; a spread as large as the error.
FALLING, RISING = (0.9, 0.5, 0.3, 0.02), (0.01, 0.05, 0.4, 0.97)


def evidence(errors: tuple[float, ...], columns: int = 2, data: bool = True) -> Evidence:
    """Three tasks added to a first one in two orders, with as many ``columns``; and the first alone in one more."""
    design: dict[str, Any] = {
        "tasks": [{"name": t, "label": t.title(), "data": "x" if data or t != "imagenet" else None} for t in TASKS],
        "columns": [{"key": f"c{i}", "label": f"0.{i}", "group": "", "method": "lwf"} for i in range(columns)],
        "trials": [],
    }
    design["columns"].append({"key": "first", "label": "0.1", "group": "first", "method": "packnet"})
    results = {}
    for i in range(columns):
        for k, order in enumerate((TASKS[1:], TASKS[:0:-1])):
            run = f"{i}-{k}"
            design["trials"].append({"column": f"c{i}", "order": list(order), "seed": k, "run": run, "first": run})
            results[run] = result((TASKS[0], *order), dict(zip(TASKS, errors, strict=True)), i, k)
    design["trials"].append({"column": "first", "order": [], "seed": 0, "run": "alone", "first": "alone"})
    results["alone"] = result(TASKS[:1], dict(zip(TASKS, errors, strict=True)), 0, 0)
    return Evidence(design, results)


def result(order: tuple[str, ...], error: dict[str, float], column: int, k: int) -> RunResult:
    def at(task: str, stage: int, worse: float = 0.0) -> Errors:
        value = min(1.0, error[task] * (1 + 6 * k) + 0.03 * column + 0.05 * stage + worse)
        return Errors(value, value / 10)

    stages = {s: {t: at(t, n - m) for m, t in enumerate(order[: n + 1])} for n, s in enumerate(order)}
    moments = {t: {"trained": at(t, 0), "pruned": at(t, 0, 0.6), "retrained": at(t, 1)} for t in order}
    layers = (LayerCapacity("conv.weight", 100, (20,) * len(order)),)
    return RunResult(stages, moments, {}, order, layers, 1000, 1000.0, 1.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Draw, Evidence], list[Figure]]:
    """The figures behind a view's pictures."""

    def draw(view: Draw, of: Evidence) -> list[Figure]:
        kept = list[Figure]()
        monkeypatch.setattr(figures, "_svg", lambda figure, name: kept.append(figure) or "")
        view(of)
        return kept

    return draw


def points(axes: Any) -> Iterator[tuple[float, float]]:
    """The corners of all lines, whiskers and bars."""
    for line in axes.lines:
        yield from zip(*(np.asarray(values, float) for values in line.get_data()), strict=True)
    for whiskers in axes.collections:
        for segment in whiskers.get_segments():
            yield from segment
    for bar in axes.patches:
        x, y, width, height = bar.get_bbox().bounds
        yield from ((x, y), (x + width, y + height))


@pytest.mark.parametrize("errors", [FALLING, RISING])
@pytest.mark.parametrize("view", [figures.bars, figures.drift, figures.order, figures.ratio, figures.ownership])
def test_everything_plotted_lies_inside_and_no_panel_is_empty(
    view: Draw, errors: tuple[float, ...], drawn: Callable[[Draw, Evidence], list[Figure]]
) -> None:
    made = drawn(view, evidence(errors))
    assert made
    for figure in made:
        for axes in figure.axes:
            found = list(points(axes))
            assert found, f"nothing in {axes.get_title()!r}"
            (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
            for x, y in found:
                assert left <= x <= right
                assert low <= y <= high


def test_the_first_tasks_curve_is_of_the_runs_in_which_it_stands_alone(
    drawn: Callable[[Draw, Evidence], list[Figure]],
) -> None:
    """In the others its rate is not the column's."""
    (figure,) = drawn(figures.ratio, evidence(FALLING))
    assert [axes.get_title() for axes in figure.axes] == [task.title() for task in TASKS]
    first, second, *_ = figure.axes
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.0", "0.1"], "one place for both 0.1"
    assert [list(line.get_xdata()) for line in first.lines] == [[1]] * 3
    assert [list(line.get_xdata()) for line in second.lines if line.get_label()[0] != "_"] == [[0, 1]] * 3


def test_a_task_without_images_has_no_panel(drawn: Callable[[Draw, Evidence], list[Figure]]) -> None:
    found = evidence(RISING)
    without = [trial for trial in found.design["trials"] if trial["order"]]
    (figure,) = drawn(figures.ratio, Evidence({**found.design, "trials": without}, found.results))
    assert [axes.get_title() for axes in figure.axes] == ["Birds", "Cars", "Flowers"]
