"""A report as Markdown, its figures as files beside it.

Texts keep the marks that ``blocks`` gives them, `code` and **what is strong**; all else is letters, whatever it says:
no HTML, no links, no other lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from packnet_deploy.errors import printable
from packnet_deploy.reports.blocks import Block, Cell, Page, Picture, Section, Table, Text

_CODE = re.compile(r"(`[^`]+`)")
_MARKUP = re.compile(r"[\\`*\[\]|]")  # what a backslash makes a letter
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # which every page of Markdown decodes

FIGURES = "figures"  # the folder of the pictures


def figure_file(section: Section, picture: Picture) -> str:
    """Where a picture lies beside the text."""
    return f"{FIGURES}/{section.name}-{picture.name}.svg"


def markdown_text(page: Page) -> str:
    """The text; its pictures are expected at ``figure_file``."""
    parts = [f"# {_plain(page.title)}", *map(_text, page.opening)]
    for section in page.sections:
        parts += [f"## {_plain(section.title)}"] if section.title != page.title else []
        parts += [_block(section, block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(section: Section, block: Block) -> str:
    if isinstance(block, Text):
        return _text(block)
    if isinstance(block, Picture):
        caption = _plain(block.caption)
        return f"![{caption}]({figure_file(section, block)})\n\n*{caption}*"
    return _table(block)


def _text(text: Text) -> str:
    return f"> **{_plain(text.text)}**" if text.warning else _prose(text.text)


def _table(table: Table) -> str:
    heads = [_plain(f"{head.group}: {head.label}" if head.group else head.label) for head in table.heads]
    lines = [_line([_plain(table.corner), *heads]), _line(["---", *("---:" for _ in heads)])]
    lines += [_line([_plain(row.label), *map(_cell, row.cells)]) for row in table.rows]
    title = f"**{_plain(table.title)}**" if table.title else ""
    return "\n\n".join(filter(None, (title, "\n".join(lines), _prose(table.note))))


def _cell(cell: Cell) -> str:
    texts = (cell.text, cell.note, cell.paper and f"paper {cell.paper}")
    return "<br>".join(_plain(text) for text in texts if text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _prose(text: str) -> str:
    """Plain but for its `code` and **strong** parts."""
    parts = _CODE.split(printable(text))
    return "".join(part if _CODE.fullmatch(part) else _plain(part, strong=True) for part in parts)


def _plain(text: str, strong: bool = False) -> str:
    marked = _MARKUP.sub(lambda found: rf"\{found[0]}", printable(text))
    marked = "".join(_ENTITIES.get(char, char) for char in marked)
    return marked.replace(r"\*\*", "**") if strong else marked
