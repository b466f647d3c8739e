"""Pages of blocks as HTML and as Markdown: nothing breaks out of a page, and a page of one section has one heading."""

from __future__ import annotations

import csv
import io

import pytest

from packnet_deploy.errors import printable
from packnet_deploy.reports.blocks import Cell, Head, Page, Picture, Row, Section, Table, Text
from packnet_deploy.reports.html import html_page
from packnet_deploy.reports.markdown import figure_file, markdown_text
from packnet_deploy.reports.sheet import row_writer


def test_texts_cannot_break_the_page() -> None:
    hostile = '<script>alert("x")</script> | `code`'
    made = Section("name", hostile, (Text(hostile), Table(hostile, "task", (), (Row(hostile, (Cell(hostile),)),))))
    page = html_page(Page(hostile, (made,), (Text(hostile),)))
    assert "<script>" not in page
    assert "<code>code</code>" in page
    text = markdown_text(Page(hostile, (made,), (Text(hostile),)))
    assert "<script>" not in text
    assert '&lt;script&gt;alert("x")&lt;/script&gt; \\| \\`code\\`' in text
    assert '&lt;script&gt;alert("x")&lt;/script&gt; \\| `code`' in text


@pytest.mark.parametrize("hostile", ["a\n# forged", "a\u2028b", "\u202ekcab", "\x1b[2J"])
def test_texts_are_one_line_in_one_direction(hostile: str) -> None:
    made = Section("name", hostile, (Text(hostile), Table(hostile, "task", (), (Row(hostile, (Cell(hostile),)),))))
    page = Page("T", (made,), (Text(hostile), Text(hostile, warning=True)))
    for written in (html_page(page), markdown_text(page)):
        assert hostile not in written
        assert printable(hostile) in written.replace("\\\\", "\\").replace("\\[", "[")


def test_a_link_is_letters() -> None:
    link = "[click](javascript:alert(1)) ![](https://tracker/x.png)"
    made = Section(
        "name", "s", (Text(link), Table("", link, (Head(link),), (Row(link, (Cell(link, link, link),)),), link))
    )
    text = markdown_text(Page("T", (made,)))
    assert text.count("click") == 8
    assert text.count(r"\[click\](") == 8


def test_a_text_is_no_formula_in_a_sheet() -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", "a,b\nforged", "\x1b[2J", "1e-3", "rose"]
    file = io.StringIO()
    row_writer(file)([*texts, -1.5, 3, None])
    (row,) = csv.reader(io.StringIO(file.getvalue()))
    escaped = ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(A1)", "\\u0009=1", "'\uff1d1", "a,b\\u000aforged", "\\u001b[2J"]
    assert row == [*escaped, "1e-3", "rose", "-1.5", "3", ""]


def test_a_section_with_the_pages_title_has_no_second_heading() -> None:
    alone = Page("T", (Section("t", "T", (Text("all"),)),))
    assert html_page(alone).count("T</h") == 1
    assert markdown_text(alone) == "# T\n\nall\n"
    several = Page("All", (Section("t", "T", ()), Section("u", "U", ())), (Text("first"),))
    assert '<h1>All</h1>\n<nav><ul><li><a href="#t">T</a>' in html_page(several)
    assert markdown_text(several) == "# All\n\nfirst\n\n## T\n\n## U\n"


def test_a_table_needs_no_title() -> None:
    table = Table("", "what", (Head("ms"),), (Row("one", (Cell("1.5"),)),))
    page = Page("T", (Section("t", "T", (table, Text("**yes**, `so`"))),))
    assert markdown_text(page) == "# T\n\n| what | ms |\n| --- | ---: |\n| one | 1.5 |\n\n**yes**, `so`\n"
    assert "<caption>" not in html_page(page)
    assert "<p><strong>yes</strong>, <code>so</code></p>" in html_page(page)


def test_a_picture_is_inside_the_html_and_beside_the_markdown() -> None:
    picture = Picture("bars", '<?xml version="1.0"?><svg id="a"><g id="b"/><use href="#b"/></svg>', "Bars.")
    section = Section("t", "T", (picture,))
    assert '<svg><g id="b"/><use href="#b"/></svg>' in html_page(Page("T", (section,)))
    assert f"![Bars.]({figure_file(section, picture)})" in markdown_text(Page("T", (section,)))
