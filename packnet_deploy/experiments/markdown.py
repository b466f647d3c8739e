"""A report as Markdown, its figures as files beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from packnet_deploy.experiments.blocks import Block, Cell, Picture, Section, Table, Text


def markdown_text(sections: Sequence[Section], figure_file: Callable[[Section, Picture], str]) -> str:
    """The text; ``figure_file`` gives a picture's path beside it."""
    several = len(sections) > 1
    parts = ["# Experiments"] if several else []
    for section in sections:
        parts.append(f"{'##' if several else '#'} {section.title}")
        parts += [_block(section, block, figure_file) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(section: Section, block: Block, figure_file: Callable[[Section, Picture], str]) -> str:
    if isinstance(block, Text):
        return f"> **{block.text}**" if block.warning else block.text
    if isinstance(block, Picture):
        return f"![{block.caption}]({figure_file(section, block)})\n\n*{block.caption}*"
    return _table(block)


def _table(table: Table) -> str:
    heads = [f"{head.group}: {head.label}" if head.group else head.label for head in table.heads]
    lines = [_line([table.corner, *heads]), _line(["---", *("---:" for _ in heads)])]
    lines += [_line([row.label, *map(_cell, row.cells)]) for row in table.rows]
    return f"**{table.title}**\n\n" + "\n".join(lines) + (f"\n\n{table.note}" if table.note else "")


def _cell(cell: Cell) -> str:
    return "<br>".join(filter(None, (cell.text, cell.note, cell.paper and f"paper {cell.paper}")))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
