"""The figures of a report: matplotlib, drawn to SVG texts that are the same for the same figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from packnet_deploy.experiments.analyses import (
    Summary,
    changes,
    column_errors,
    columns_by_label,
    errors_by_moment,
    errors_by_position,
    summary,
)
from packnet_deploy.experiments.results import MOMENTS, Evidence
from packnet_deploy.reports.blocks import Picture
from packnet_deploy.reports.drawing import COLOURS, save_figure

FREE_COLOUR = "#E4E4E4"  # grey, for what nobody owns
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
}
_WIDTH = 7.6  # inches; the text column of the HTML
_NAMES_SHOWN = 40  # layers whose names fit under a figure


def bars(evidence: Evidence) -> list[Picture]:
    """Final errors: tasks along the axis, one bar a column."""
    columns = [c for c in evidence.design["columns"] if evidence.trials(c["key"])]
    tasks = [t for t in evidence.design["tasks"] if any(_final(evidence, c, t) for c in columns)]
    if not tasks:
        return []
    figure, (axes,) = _figure(1, height=2.9)
    width = 0.8 / len(columns)
    for i, column in enumerate(columns):
        found = [(x, s) for x, task in enumerate(tasks) if (s := _final(evidence, column, task)) is not None]
        places = [x + (i - (len(columns) - 1) / 2) * width for x, _ in found]
        label = " ".join(filter(None, (column["group"], column["label"])))
        axes.bar(places, [s.mean for _, s in found], width * 0.92, color=COLOURS[i % len(COLOURS)], label=label)
        _whiskers(axes, places, [s for _, s in found], "#333333")
    axes.set_xticks(range(len(tasks)), [task["label"] for task in tasks])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("top-1 error, %")
    _legend(figure, axes)
    caption = "Top-1 test error when all tasks had been trained; whiskers: sample standard deviation."
    return [Picture("bars", _svg(figure, "bars"), caption)]


def drift(evidence: Evidence) -> list[Picture]:
    """How far older tasks' errors moved: a panel a task, a line a column."""
    tasks = evidence.design["tasks"]
    columns = [c for c in evidence.design["columns"] if changes(evidence, c["key"])]
    shown = [t for t in tasks if any(t["name"] in changes(evidence, c["key"]) for c in columns)]
    if not shown:
        return []
    most = max(added for c in columns for by_added in changes(evidence, c["key"]).values() for added in by_added)
    figure, panels = _figure(len(shown), height=2.7, sharey=True)
    for axes, task in zip(panels, shown, strict=True):
        for i, column in enumerate(columns):
            by_added = changes(evidence, column["key"]).get(task["name"], {})
            found = {k: s for k, values in sorted(by_added.items()) if (s := summary(100 * v for v in values))}
            if found:
                _line(axes, [0, *found], [Summary(1, 0.0, None), *found.values()], i, column["label"])
        axes.set_title(task["label"])
        axes.set_xlabel("tasks added since")
        axes.set_xticks(range(most + 1))
        axes.set_xlim(-0.2, most + 0.2)
    panels[0].set_ylabel("change of top-1 error, points")
    _legend(figure, panels)
    caption = "How the errors of tasks trained earlier move as tasks are added (0: unchanged; above: worse)."
    return [Picture("drift", _svg(figure, "drift"), caption)]


def order(evidence: Evidence) -> list[Picture]:
    """Errors by place in the order: a panel a column, a line a task."""
    by_column = {c["label"]: errors_by_position(evidence, c["key"]) for c in evidence.design["columns"]}
    by_column = {label: e for label, e in by_column.items() if any(len(by_place) > 1 for by_place in e.values())}
    if not by_column:
        return []
    figure, panels = _figure(len(by_column), height=2.7, sharey=True)
    added = evidence.design["tasks"][1:]
    for axes, (label, errors) in zip(panels, by_column.items(), strict=True):
        for i, task in enumerate(added):
            found = {
                place: s
                for place, values in sorted(errors.get(task["name"], {}).items())
                if (s := summary(100 * e.top1 for e in values))
            }
            if found:
                _line(axes, list(found), list(found.values()), i, task["label"])
        axes.set_title(label)
        axes.set_xlabel("place among the added tasks")
        axes.set_xticks(range(1, len(added) + 1))
    panels[0].set_ylabel("top-1 error, %")
    _legend(figure, panels)
    return [Picture("order", _svg(figure, "order"), "Top-1 test error by when a task was added.")]


def ratio(evidence: Evidence) -> list[Picture]:
    """Errors before pruning, after it and after retraining: a panel a task, the columns' labels along the axis."""
    tasks, columns = evidence.design["tasks"], columns_by_label(evidence)
    measured = {t["name"]: [errors_by_moment(evidence, keys, t["name"]) for keys in columns.values()] for t in tasks}
    shown = [t for t in tasks if any(by_moment[m] for by_moment in measured[t["name"]] for m in MOMENTS)]
    if not shown:
        return []
    figure, panels = _figure(len(shown), height=2.7, sharey=True)
    for axes, task in zip(panels, shown, strict=True):
        for i, moment in enumerate(MOMENTS):
            found = {
                x: s
                for x, by_moment in enumerate(measured[task["name"]])
                if (s := summary(100 * e.top1 for e in by_moment[moment]))
            }
            if found:
                _line(axes, list(found), list(found.values()), i, _MOMENT_LABELS[moment])
        axes.set_title(task["label"])
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_xlim(-0.3, len(columns) - 0.7)
    panels[0].set_ylim(bottom=min(0, panels[0].get_ylim()[0]))  # of all panels, once all is drawn
    panels[0].set_ylabel("top-1 error, %")
    _legend(figure, panels)
    return [Picture("ratio", _svg(figure, "ratio"), "Top-1 test error before pruning, after it, and after retraining.")]


def ownership(evidence: Evidence) -> list[Picture]:
    """Who owns how much of every layer, in each column's first run; columns in which one task owns all are left out."""
    labels = {task["name"]: task["label"] for task in evidence.design["tasks"]}
    made = []
    for column in evidence.design["columns"]:
        trials = evidence.trials(column["key"])
        if not trials or sum(any(layer.owned[i] for layer in trials[0][1].layers) for i in _owners(trials[0][1])) < 2:
            continue
        trial, result = trials[0]
        figure, (axes,) = _figure(1, height=2.9)
        places = range(len(result.layers))
        below = [0.0] * len(places)
        parts = [(labels[o], [x.owned[i] for x in result.layers]) for i, o in enumerate(result.owners)]
        for i, (label, counts) in enumerate([*parts, ("free", [layer.free for layer in result.layers])]):
            heights = [100 * count / layer.size for count, layer in zip(counts, result.layers, strict=True)]
            colour = FREE_COLOUR if i == len(parts) else COLOURS[i % len(COLOURS)]
            axes.bar(places, heights, 0.86, bottom=below, color=colour, label=label)
            below = [b + h for b, h in zip(below, heights, strict=True)]
        names = [layer.name.removesuffix(".weight") for layer in result.layers]
        if len(names) <= _NAMES_SHOWN:
            axes.set_xticks(places, names, rotation=90, fontsize=7)
        else:
            axes.set_xlabel(f"{len(names)} layers, in the network's order")
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.7, len(names) - 0.3)
        axes.set_ylabel("weights owned, %")
        axes.grid(visible=False)
        _legend(figure, axes)
        label = " ".join(filter(None, (column["group"], column["label"])))
        caption = f"Who owns each layer's weights: {label}; order {', '.join(labels[t] for t in trial['order'])}, "
        name = f"ownership-{column['key']}"
        made.append(Picture(name, _svg(figure, name), caption + f"seed {trial['seed']}."))
    return made


_MOMENT_LABELS = {"trained": "before pruning", "pruned": "pruned", "retrained": "retrained"}


def _owners(result: Any) -> range:
    return range(len(result.owners))


def _final(evidence: Evidence, column: Any, task: Any) -> Summary | None:
    return summary(100 * e.top1 for e in column_errors(evidence, column["key"], task["name"]))


def _figure(panels: int, height: float, sharey: bool = False) -> tuple[Any, Sequence[Any]]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        return figure, list(figure.subplots(1, panels, sharey=sharey, squeeze=False)[0])


def _line(axes: Any, places: Sequence[int], found: Sequence[Summary], index: int, label: str) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], "osD^vP*X"[index % 8]
    axes.plot(places, [s.mean for s in found], color=colour, marker=marker, markersize=4, linewidth=1.5, label=label)
    _whiskers(axes, places, found, colour)


def _whiskers(axes: Any, places: Sequence[float], found: Sequence[Summary], colour: str) -> None:
    """The spreads; one run has none."""
    for place, s in zip(places, found, strict=True):
        if s.spread is not None:
            axes.errorbar([place], [s.mean], [s.spread], fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)


def _legend(figure: Any, panels: Any) -> None:
    """One legend above all panels, each label once."""
    handles: dict[str, Any] = {}
    for axes in panels if isinstance(panels, list) else [panels]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles,
        loc="outside upper left",
        ncols=min(len(handles), 5),
        handlelength=1.3,
        fontsize=8,
        frameon=False,
    )


def _svg(figure: Any, name: str) -> str:
    """The figure as an SVG document without a date, its ids made from its name."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        save_figure(figure, text, name)
    return text.getvalue()
