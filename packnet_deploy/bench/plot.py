"""A benchmark report as one picture: throughput over batches, latency, switches, and what each way takes."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from statistics import median
from typing import Any

from packnet_deploy.bench.report import IN_TURN, NO_COPIES, REPEATED, BenchReport, Measurement
from packnet_deploy.errors import EnvironmentFault, UsageError, missing_package
from packnet_deploy.reports.drawing import COLOURS, save_figure

SUFFIXES = (".svg", ".png", ".pdf")
MARKS = {IN_TURN: ("o", COLOURS[0]), REPEATED: ("s", COLOURS[2]), NO_COPIES: ("^", COLOURS[1])}
WIDTH = 0.24  # of a lane, of which each way has some
MB = 1e6


def check_plot(path: Path) -> None:
    """Whether a picture can be drawn to ``path``: asked before hours of measuring.

    Raises:
        UsageError: not a kind of file that can be drawn.
        EnvironmentFault: there is no matplotlib, or no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--plot {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise EnvironmentFault(f"--plot {path}: no such folder; make it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_package("matplotlib", "report", "drawing a plot") from error


def draw(report: BenchReport, path: Path) -> None:
    """Write the picture: figures of the report, and medians of them over the tasks. Unstable ones are not marked.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    throughput, latency, switch, memory = figure.subplots(2, 2).flat
    measured = [m for m in report.measurements if m.way != "separate"] or list(report.measurements)
    names = [m.label if len(m.tasks) > 1 else f"{m.label}, {m.tasks[0]}" for m in measured]
    _throughput(throughput, measured, names)
    _latency(latency, measured, names)
    _switches(switch, measured, names)
    _footprint(memory, measured, names)
    figure.suptitle(str(report.machine), fontsize=7, wrap=True)
    save_figure(figure, path, "packnet", path.suffix.removeprefix("."))


def _throughput(axes: Any, measured: list[Measurement], names: list[str]) -> None:
    kinds = list(dict.fromkeys((one.way, one.backend) for one in measured))
    for one, name in zip(measured, names, strict=True):
        colour = COLOURS[kinds.index((one.way, one.backend)) % len(COLOURS)]
        rows = one.timings(REPEATED) or one.timings(IN_TURN)
        sizes = sorted({row.batch for row in rows})
        rates = [median(row.timing.images_per_s for row in rows if row.batch == size) for size in sizes]
        axes.plot(sizes, rates, ".--" if one.cuda_graph else ".-", color=colour, label=name)
    sizes = sorted({row.batch for one in measured for row in one.latencies})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="images a request", ylabel="images/s")
    axes.set_title("Throughput, copies included, switches not", fontsize=10)
    axes.legend(fontsize=7)


def _latency(axes: Any, measured: list[Measurement], names: list[str]) -> None:
    """p50 to p99 of each kind, at the smallest batch size."""
    kinds = [how for how in MARKS if any(one.timings(how) for one in measured)]
    for index, how in enumerate(kinds):
        mark, colour = MARKS[how]
        found = [
            (_lane(place, index, kinds), *_percentiles(o, how)) for place, o in enumerate(measured) if o.timings(how)
        ]
        for lane, p50, p99 in found:
            axes.plot([p50, p99], [lane] * 2, color=colour, linewidth=1)
        lanes, p50s = [lane for lane, *_ in found], [p50 for _, p50, _ in found]
        axes.plot(p50s, lanes, mark, color=colour, markersize=4, label=how)
    smallest = min(row.batch for one in measured for row in one.latencies)
    _by_way(axes, names, f"Latency, {smallest} a request: p50 (mark) to p99", "ms")
    axes.legend(fontsize=7)


def _percentiles(measured: Measurement, how: str) -> tuple[float, float]:
    rows = measured.timings(how)
    smallest = [row.timing for row in rows if row.batch == min(row.batch for row in rows)]
    return median(timing.p50_ms for timing in smallest), median(timing.p99_ms for timing in smallest)


def _switches(axes: Any, measured: list[Measurement], names: list[str]) -> None:
    for place, one in enumerate(measured):
        if one.switch is not None:
            axes.plot([one.switch.p50_ms, one.switch.p99_ms], [place] * 2, color=COLOURS[0], linewidth=1)
            axes.plot(one.switch.p50_ms, place, "o", color=COLOURS[0], markersize=4)
        elif one.switch_ms is not None:
            axes.plot(max(0, one.switch_ms), place, "x", color=COLOURS[1], markersize=5)
    _by_way(axes, names, "Switching alone: p50 (dot) to p99; cross: as seen in requests", "ms")


def _footprint(axes: Any, measured: list[Measurement], names: list[str]) -> None:
    kinds: dict[str, list[int | None]] = {
        "files": [one.file_bytes for one in measured],
        "memory": [_memory(one) for one in measured],
        "GPU memory": [one.gpu_memory_bytes for one in measured],
    }
    known = {kind: counts for kind, counts in kinds.items() if any(count is not None for count in counts)}
    for index, (kind, counts) in enumerate(known.items()):
        found = [(_lane(place, index, known), count / MB) for place, count in enumerate(counts) if count is not None]
        axes.barh(
            [lane for lane, _ in found], [size for _, size in found], WIDTH * 0.9, color=COLOURS[index], label=kind
        )
    _by_way(axes, names, "What all tasks take", "MB")
    axes.legend(fontsize=7)


def _lane(place: int, index: int, kinds: Sized) -> float:
    """Where the ``index``-th of ``kinds`` is drawn beside the others of its way, the first at the top."""
    return place + (index - (len(kinds) - 1) / 2) * WIDTH


def _memory(measured: Measurement) -> int | None:
    parts = measured.load_memory_bytes, measured.run_memory_bytes
    return None if parts[0] is None or parts[1] is None else parts[0] + parts[1]


def _by_way(axes: Any, names: list[str], title: str, unit: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
