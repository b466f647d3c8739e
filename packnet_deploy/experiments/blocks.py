"""A report as plain data: sections of texts, tables and figures. How they look is html.py's and markdown.py's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A table's cell: the figure, a smaller line under it, and the paper's own figure."""

    text: str
    note: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning is set off."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Head:
    """A column's name, below the name of its group (columns of one group stand together)."""

    label: str
    group: str = ""


@dataclass(frozen=True)
class Row:
    label: str
    cells: tuple[Cell, ...]
    is_summary: bool = False  # sizes and the like, set off from the tasks


@dataclass(frozen=True)
class Table:
    """A table; ``note`` stands under it."""

    title: str
    corner: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: ``svg`` is a whole SVG document, ``name`` its file's name."""

    name: str
    svg: str
    caption: str


Block = Text | Table | Picture


@dataclass(frozen=True)
class Section:
    """One experiment's part of a report."""

    name: str
    title: str
    blocks: tuple[Block, ...]
