"""A benchmark report for the terminal: what the sessions take, how fast they answer, and every reason for doubt."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from packnet_deploy.bench.job import WAYS
from packnet_deploy.bench.memory import spare_bytes, spare_gpu_bytes
from packnet_deploy.bench.report import IN_TURN, BenchReport, Measurement
from packnet_deploy.bench.ways import Way, recommend, ways_of

MB = 1e6


def bench_tables(report: BenchReport) -> Group:
    """Two tables for 80 columns, notes and doubts, and the machine; for ``rich.print``."""
    threads = report.options.threads or "ONNX Runtime's own choice"
    parts: list[RenderableType] = [_footprint(report), _latency(report)]
    if any(measured.switch for measured in report.measurements):
        parts.append(_switches(report))
    if ways := ways_of(report.measurements):
        best = recommend(ways, spare_bytes(), spare_gpu_bytes() if _uses_gpu(report) else None)
        parts += [_ways(ways), Text(f"for requests that alternate between tasks: {best}")]
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    parts += [Text(f"unstable: {line}", style="yellow") for line in _doubts(report)]
    precision = "" if report.options.precision == "fp32" else f"; exports and built plans in {report.options.precision}"
    parts.append(Text(f"{report.machine}; threads of each session: {threads}{precision}", style="dim"))
    return Group(*parts)


def _uses_gpu(report: BenchReport) -> bool:
    return any(measured.gpu_memory_bytes is not None for measured in report.measurements)


def _footprint(report: BenchReport) -> Table:
    gpu = _uses_gpu(report)
    table = _table(
        "What the sessions take",
        "Loaded once, files in the page cache. Memory: growth of the process's resident memory when the sessions "
        "are opened, and then over all runs"
        + ("; GPU: growth of the GPU's memory in use over both." if gpu else "; GPU memory is not counted."),
        left=("held", "task", "device"),
        right=("files", "load", "memory", "over runs", *(["GPU"] if gpu else [])),
    )
    for measured in report.measurements:
        devices = dict.fromkeys(name.removesuffix("ExecutionProvider") for name in measured.providers.values())
        table.add_row(
            measured.label,
            Text(_tasks(measured)),
            ", ".join(devices),
            _megabytes(measured.file_bytes),
            f"{measured.load_ms:.0f} ms",
            _megabytes(measured.load_memory_bytes),
            _megabytes(measured.run_memory_bytes),
            *([_megabytes(measured.gpu_memory_bytes)] if gpu else []),
        )
    return table


def _switches(report: BenchReport) -> Table:
    table = _table(
        "Switching alone",
        "Milliseconds for the call that makes an engine another task, the GPU at rest before and after.",
        left=("held",),
        right=("switches", "p50", "p99", "unstable"),
    )
    for measured in report.measurements:
        if (timing := measured.switch) is not None:
            table.add_row(
                measured.label,
                str(timing.runs),
                *map(_milliseconds, (timing.p50_ms, timing.p99_ms)),
                Text(timing.unstable.partition(":")[0], style="yellow"),
            )
    return table


def _ways(ways: list[Way]) -> Table:
    gpu = any(way.gpu_memory_bytes is not None for way in ways)
    names = dict.fromkeys(way.name for way in ways)
    table = _table(
        "Ways to hold all tasks",
        "At the smallest batch size, median over the tasks. Memory: growth by loading and running. Switch: what a "
        "request takes longer after one for another task. " + "; ".join(f"{name}: {WAYS[name]}" for name in names),
        left=("way",),
        right=("files", "memory", *(["GPU"] if gpu else []), "p50", "switch", "alternating"),
    )
    for way in ways:
        table.add_row(
            way.label,
            _megabytes(way.file_bytes),
            _megabytes(way.memory_bytes),
            *([_megabytes(way.gpu_memory_bytes)] if gpu else []),
            *(f"{_milliseconds(time)} ms" for time in (way.p50_ms, way.switch_ms, way.alternating_ms)),
        )
    return table


def _latency(report: BenchReport) -> Table:
    table = _table(
        "How fast they answer",
        "Milliseconds for a whole batch; of several tasks: requests in turn over them, switches included, unless "
        "it says repeated (one task again and again), no copies (the same, on the GPU alone) or GPU time (that by the "
        "GPU's own events). Percentiles by "
        "nearest rank: p99 of fewer than 100 runs is the slowest run.",
        left=("held", "task"),
        right=("batch", "runs", "p50", "p90", "p99", "images/s", "unstable"),
    )
    for measured in report.measurements:
        table.add_section()
        above = ""
        for row in measured.latencies:
            timing = row.timing
            held = measured.label if row.how == IN_TURN else f"{measured.label}, {row.how}"
            above, held = held, "" if held == above else held
            table.add_row(
                held,
                Text(row.task),
                str(row.batch),
                str(timing.runs),
                *map(_milliseconds, (timing.p50_ms, timing.p90_ms, timing.p99_ms)),
                f"{timing.images_per_s:,.0f}",
                Text(timing.unstable.partition(":")[0], style="yellow"),
            )
    return table


def _table(title: str, caption: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        padding=(0, 1, 0, 0),
    )
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _doubts(report: BenchReport) -> list[str]:
    """The reasons for doubt, one line for each kind with its first case; all of them are in the JSON."""
    kinds: dict[str, list[str]] = {}
    for measured, row in report.rows():
        kind, _, reason = row.timing.unstable.partition(":")
        if kind:
            line = f"{kind}:{reason}; {measured.label}, {row.task}, batch {row.batch}"
            kinds.setdefault(kind, []).append(line)
    return [lines[0] + (f" (and {len(lines) - 1} more)" if lines[1:] else "") for lines in kinds.values()]


def _tasks(measured: Measurement) -> str:
    return measured.tasks[0] if len(measured.tasks) == 1 else f"all {len(measured.tasks)}"


def _milliseconds(time: float) -> str:
    return f"{time:,.0f}" if time >= 100 else f"{time:.3g}"


def _megabytes(count: int | None) -> str:
    return "n/a" if count is None else f"{count / MB:,.1f} MB"
