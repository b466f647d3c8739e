"""The paper's own figures (paper.toml), to stand beside ours, and its way of counting sizes, so that ours can too.

The paper counts every weight of the network and of the heads at 4 bytes, free ones too, and a mask over the
packable weights at log2(N) bits each for N tasks (its table 2: 562 MB for VGG-16, 595 MB with masks for four tasks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packnet_deploy.pack import Pack
from packnet_deploy.training.recipe import read_toml

_FILE = Path(__file__).with_name("paper.toml")
_BYTES = 4  # of a weight
_DENSE = ("head/", "shared/", "own/")


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


def paper_bytes(pack: Pack, by_filter: bool = False) -> float:
    """Bytes as the paper counts; a network whose weights all belong to one task needs no mask.

    Args:
        by_filter: whole filters are owned, so the mask has an entry for each filter, not for each weight.
    """
    with pack.opened() as opened:
        files = opened.chain.files
        entries = [(name, entry.size) for file in files for name, entry in file.entries.items()]
        owners = sum(any(e.size for n, e in file.entries.items() if n.startswith("values/")) for file in files)
    dense = sum(size for name, size in entries if name.startswith(_DENSE))
    return paper_count(
        packable=pack.manifest.weights,
        dense=dense,
        masked=sum(param.shape[0] if by_filter else param.size for param in pack.packable),
        owners=owners,
    )


def paper_count(packable: int, dense: int, masked: int, owners: int) -> float:
    """Bytes of ``packable`` and ``dense`` parameters, and of a mask of ``masked`` entries that names ``owners``."""
    return _BYTES * (packable + dense) + masked * math.log2(max(owners, 1)) / 8
