"""Figures of matplotlib: the colours, and files that are the same for the same figures."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

# Okabe and Ito's, which remain distinct for the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#5E4FA2")


def save_figure(figure: Any, target: Path | IO[str], name: str, kind: str = "svg") -> None:
    """Write a figure of matplotlib without the date, its ids made from ``name``, its texts as texts.

    Args:
        kind: svg, png or pdf.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib import rc_context

    undated = {"Date": None, "Creator": None} if kind == "svg" else None
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(target, format=kind, metadata=undated)
