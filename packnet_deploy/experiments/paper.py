"""The paper's own figures (paper.toml): texts with a source, to stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packnet_deploy.training.recipe import read_toml

_FILE = Path(__file__).with_name("paper.toml")


@dataclass(frozen=True)
class PaperFigures:
    """The figures for one recipe: ``views[view][column][row]`` is a text, its marks explained in ``marks``."""

    source: str = ""
    views: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)  # of columns that the recipe at hand does not have

    def cell(self, view: str, column: str, row: str) -> str:
        """The paper's figure, or "" where none is known from a source."""
        return self.views.get(view, {}).get(column, {}).get(row, "")

    def note(self, view: str) -> str:
        """Where the view's figures come from, and what marks on them mean; "" where there are none."""
        if view not in self.views:
            return ""
        texts = [text for rows in self.views[view].values() for text in rows.values()]
        marks = [f"{mark} {meaning}" for mark, meaning in self.marks.items() if any(mark in text for text in texts)]
        return "; ".join([self.source, *marks])


def paper_figures(key: str) -> PaperFigures:
    """The figures a recipe names by its ``paper``; empty for a key without any."""
    document = read_toml(_FILE)
    table = dict(document.get(key, {}))
    if not table:
        return PaperFigures()
    source, labels = table.pop("source"), table.pop("labels", {})
    return PaperFigures(source, table, document["marks"], labels)
