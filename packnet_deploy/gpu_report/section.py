"""A part of the GPU report: one question, a table, an answer in words. What could not be measured says why instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from packnet_deploy.reports import blocks

Cell = str | float | int | None


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        rows: a cell for each column; None where there is nothing to say.
        answer: "" where the table is all there is to say.
        not_measured: why there is no table; "" where there is one.
    """

    title: str
    question: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    answer: str = ""
    not_measured: str = ""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Section:
        rows = tuple(tuple(row) for row in value["rows"])
        return cls(**{**value, "columns": tuple(value["columns"]), "rows": rows})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def records(self) -> list[dict[str, Cell]]:
        """Its rows, each by the columns' names."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_blocks(self) -> blocks.Section:
        """As it is shown."""
        if self.not_measured:
            found: tuple[blocks.Block, ...] = (blocks.Text(f"**Not measured**: {self.not_measured}"),)
        else:
            answer = (blocks.Text(f"**{self.answer}**"),) if self.answer else ()
            found = (_table(self.columns, self.rows), *answer)
        return blocks.Section(self.title, self.title, (blocks.Text(self.question), *found))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> blocks.Table:
    heads = tuple(blocks.Head(name) for name in columns[1:])
    shown = ([_shown(cell) for cell in cells] for cells in rows)
    body = tuple(blocks.Row(label, tuple(map(blocks.Cell, cells))) for label, *cells in shown)
    return blocks.Table("", columns[0], heads, body)


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else cell
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
