"""What the sections found, held against what it should be. Pure: sections in, a section out.

Each goal takes the worst of the rows that it is about, so that one row that misses it is not hidden by others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from packnet_deploy.gpu_report.section import Cell, Section

Record = Mapping[str, Cell]
Records = Mapping[str, Sequence[Record]]  # by section
NEIGHBOURS = ("1 to 2", "2 to 1", "2 to 3", "3 to 2")  # one task up or down


@dataclass(frozen=True)
class Goal:
    """One of them.

    Attributes:
        figures: those that it is about.
        most: whether they may be ``limit`` at most; else at least.
    """

    what: str
    limit: float
    figures: Callable[[Records], list[float]]
    most: bool = True

    def answer(self, records: Records) -> tuple[Cell, ...]:
        found = self.figures(records)
        sign = "≤" if self.most else "≥"
        if not found:
            return (self.what, f"{sign} {self.limit:g}", "not measured", "")
        worst = max(found) if self.most else min(found)
        holds = worst <= self.limit if self.most else worst >= self.limit
        return (self.what, f"{sign} {self.limit:g}", worst, "yes" if holds else "NO")


def goals(sections: Mapping[str, Section]) -> Section:
    """The section of the report that comes first.

    Args:
        sections: by their names, as far as they have been measured.
    """
    records = {name: section.records() for name, section in sections.items()}
    return Section(
        "Goals",
        "ResNet-50 in fp16 with three tasks, where nothing else is said; the worst of all rows that a goal is about.",
        ("goal", "limit", "found", "holds"),
        tuple(goal.answer(records) for goal in GOALS),
    )


def _switch(bank: str) -> Callable[[Records], list[float]]:
    def figures(records: Records) -> list[float]:
        rows = [row for row in records.get("switches", ()) if (row["precision"], row["bank"]) == ("fp16", bank)]
        return [value for row in rows for pair in NEIGHBOURS if (value := _figure(row[f"{pair}, p50"])) is not None]

    return figures


def _latency(records: Records) -> list[float]:
    """Of every engine that switches, to that of plans of one task, all else being equal."""
    rows = [row for row in records.get("grid", ()) if row["precision"] == "fp16"]
    alike = ("backend", "batch", "graph")
    plain = {tuple(row[name] for name in alike): _figure(row["GPU p50, ms"]) for row in rows if row["switch"] == "none"}
    found = []
    for row in rows:
        own, none = _figure(row["GPU p50, ms"]), plain.get(tuple(row[name] for name in alike))
        if str(row["switch"]).startswith(("bind", "refit")) and own is not None and none:
            found.append(own / none)
    return found


def _memory(records: Records) -> list[float]:
    """A model, and what an engine takes more than a plan of one task does; banks on the host."""
    rows = [row for row in records.get("grid", ()) if row["precision"] == "fp16"]
    alike = ("backend", "batch", "graph")
    three = {tuple(r[name] for name in alike): _figure(r["GPU memory, MB"]) for r in rows if r["switch"] == "none"}
    found = []
    for row in rows:
        taken, plans = _figure(row["GPU memory, MB"]), three.get(tuple(row[name] for name in alike))
        model = _figure(row["one model, MB"])
        if row["bank"] == "host" and taken is not None and plans is not None and model:
            found.append(1 + (taken - plans / 3) / model)
    return found


def _gain(records: Records) -> list[float]:
    return _column(records, "gain", "gain", lambda row: row["network"] == "vgg16")


def _bandwidth(records: Records) -> list[float]:
    return _column(records, "switching", "ratio", lambda row: True)


def _column(records: Records, section: str, column: str, chosen: Callable[[Record], bool]) -> list[float]:
    figures = [_figure(row[column]) for row in records.get(section, ()) if chosen(row)]
    return [figure for figure in figures if figure is not None]


def _figure(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, (int, float)) else None


GOALS = (
    Goal("a switch by one task, bank on the host, ms (p50)", 2, _switch("host")),
    Goal("a switch by one task, bank on the GPU, ms (p50)", 0.3, _switch("device")),
    Goal("latency of bind and refit, in that of a plan of one task (GPU p50)", 1.05, _latency),
    Goal("GPU memory with the bank on the host, in models", 1.2, _memory),
    Goal("dense to sparse latency of VGG-16 under 2:4", 1.15, _gain, most=False),
    Goal("switching kernels' bandwidth, in that of a copy", 0.8, _bandwidth, most=False),
)
