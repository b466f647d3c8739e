"""A report as one HTML page that needs nothing else: its style and its figures are inside."""

from __future__ import annotations

import html
import itertools
import re

from packnet_deploy.errors import printable
from packnet_deploy.reports.blocks import Block, Cell, Page, Picture, Row, Section, Table, Text

_STYLE = """
:root { --ink: #1c1e21; --soft: #5f6670; --rule: #c9ced6; --paper: #7a3e00; --ground: #fbfbfa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 Charter, Georgia, Cambria, serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 3.5rem 0 .8rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); }
nav, table, figcaption, .note, .warning { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
nav ul { columns: 2 20rem; padding-left: 1.2rem; font-size: .92rem; }
nav a { color: #0a5794; text-decoration: none; } nav a:hover { text-decoration: underline; }
p { max-width: 46rem; }
code { font: .86em ui-monospace, Menlo, Consolas, monospace; background: #f0f0ee; padding: .1em .3em; }
.warning { background: #fff6e0; border-left: 4px solid #e69f00; padding: .6rem .9rem; font-size: .92rem;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1.6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td { padding: .34rem .8rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { vertical-align: bottom; font-weight: 600; white-space: normal; min-width: 5rem; }
thead tr:last-child th { border-bottom: 1px solid var(--ink); }
thead th.group { text-align: center; border-bottom: 1px solid var(--rule); }
tbody th { text-align: left; font-weight: 400; }
th:first-child { text-align: left; padding-left: .2rem; }
tr.summary:not(.summary ~ .summary) > * { border-top: 1px solid var(--rule); }
td small { display: block; color: var(--soft); font-size: .76rem; line-height: 1.35; }
td small.paper { color: var(--paper); }
.note { font-size: .82rem; color: var(--soft); margin: .5rem 0 0; max-width: 52rem; }
figure { margin: 1.8rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { font-size: .85rem; color: var(--soft); max-width: 46rem; }
"""


def escape(text: str) -> str:
    """What a text says as letters, whatever it says: no markup, no other direction."""
    return html.escape(printable(text))


def html_page(page: Page) -> str:
    """The page; with more than one section it begins with their list."""
    title = escape(page.title)
    links = "".join(f'<li><a href="#{escape(s.name)}">{escape(s.title)}</a></li>' for s in page.sections)
    contents = f"<nav><ul>{links}</ul></nav>" if len(page.sections) > 1 else ""
    opening = "".join(f"{_block(block)}\n" for block in page.opening)
    body = "".join(_section(section, heading=section.title != page.title) for section in page.sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><main>\n<h1>{title}</h1>\n{contents}{opening}{body}</main></body>\n</html>\n"
    )


def _section(section: Section, heading: bool) -> str:
    head = f"<h2>{escape(section.title)}</h2>\n" if heading else ""
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="{escape(section.name)}">\n{head}{blocks}\n</section>\n'


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p{' class=warning' if block.warning else ''}>{_prose(block.text)}</p>"
    if isinstance(block, Picture):
        return f"<figure>{_inline(block.svg)}<figcaption>{escape(block.caption)}</figcaption></figure>"
    return _table(block)


def _table(table: Table) -> str:
    grouped = any(head.group for head in table.heads)
    corner = f'<th scope="col"{" rowspan=2" if grouped else ""}>{escape(table.corner)}</th>'
    labels = "".join(f'<th scope="col">{escape(head.label)}</th>' for head in table.heads)
    if grouped:
        groups = itertools.groupby(table.heads, key=lambda head: head.group)
        above = "".join(f'<th class="group" colspan="{len(list(g))}">{escape(name)}</th>' for name, g in groups)
        head = f"<tr>{corner}{above}</tr><tr>{labels}</tr>"
    else:
        head = f"<tr>{corner}{labels}</tr>"
    rows = "\n".join(_row(row) for row in table.rows)
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    note = f'<p class="note">{_prose(table.note)}</p>' if table.note else ""
    return f'<div class="wide"><table>{caption}<thead>{head}</thead>\n<tbody>{rows}</tbody></table>{note}</div>'


def _row(row: Row) -> str:
    cells = "".join(f"<td>{_cell(cell)}</td>" for cell in row.cells)
    return f'<tr{" class=summary" if row.is_summary else ""}><th scope="row">{escape(row.label)}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    paper = f'<small class="paper">paper {escape(cell.paper)}</small>' if cell.paper else ""
    return f"{escape(cell.text)}{note}{paper}"


def _prose(text: str) -> str:
    with_code = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", with_code)


def _inline(svg: str) -> str:
    """The SVG element alone; ids that nothing refers to go, because a page holds several figures."""
    element = svg[svg.index("<svg") :]
    used = set(re.findall(r"#([\w.-]+)", element))
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", element)
