"""A report as Markdown, its figures as files beside it."""

from __future__ import annotations

from collections.abc import Sequence

from packnet_deploy.reports.blocks import Block, Cell, Page, Picture, Section, Table, Text

FIGURES = "figures"  # the folder of the pictures


def figure_file(section: Section, picture: Picture) -> str:
    """Where a picture lies beside the text."""
    return f"{FIGURES}/{section.name}-{picture.name}.svg"


def markdown_text(page: Page) -> str:
    """The text; its pictures are expected at ``figure_file``."""
    parts = [f"# {page.title}", *map(_text, page.opening)]
    for section in page.sections:
        parts += [f"## {section.title}"] if section.title != page.title else []
        parts += [_block(section, block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(section: Section, block: Block) -> str:
    if isinstance(block, Text):
        return _text(block)
    if isinstance(block, Picture):
        return f"![{block.caption}]({figure_file(section, block)})\n\n*{block.caption}*"
    return _table(block)


def _text(text: Text) -> str:
    return f"> **{text.text}**" if text.warning else text.text


def _table(table: Table) -> str:
    heads = [f"{head.group}: {head.label}" if head.group else head.label for head in table.heads]
    lines = [_line([table.corner, *heads]), _line(["---", *("---:" for _ in heads)])]
    lines += [_line([row.label, *map(_cell, row.cells)]) for row in table.rows]
    return "\n\n".join(filter(None, (table.title and f"**{table.title}**", "\n".join(lines), table.note)))


def _cell(cell: Cell) -> str:
    return "<br>".join(filter(None, (cell.text, cell.note, cell.paper and f"paper {cell.paper}")))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
