"""Reports: pages of texts, tables and figures, written as HTML and as Markdown.

What they say is the business of who writes them.

    blocks.py     pages, sections, tables, texts and pictures
    html.py       one page that needs nothing else
    markdown.py   the same as Markdown, its pictures beside it
    sheet.py      rows as CSV
    drawing.py    colours, and figures that are the same for the same data
"""

from packnet_deploy.reports.blocks import Block, Cell, Head, Page, Picture, Row, Section, Table, Text
from packnet_deploy.reports.html import html_page
from packnet_deploy.reports.markdown import markdown_text

__all__ = [
    "Block",
    "Cell",
    "Head",
    "Page",
    "Picture",
    "Row",
    "Section",
    "Table",
    "Text",
    "html_page",
    "markdown_text",
]
