"""A report as plain data: pages of sections of texts, tables and figures; ``html`` and ``markdown`` write it."""

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
    """A paragraph, in which `code` and **what is strong** are marked as in Markdown; a warning is set off."""

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
    """A table; ``title`` (which may be empty) stands above it, ``note`` under it."""

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
    """A part of a page; ``name`` is what links and files of pictures call it."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """What one file holds: ``opening``, then sections. A section with the page's own title gets no second heading."""

    title: str
    sections: tuple[Section, ...]
    opening: tuple[Text, ...] = ()
