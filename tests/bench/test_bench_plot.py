"""A report as a picture, of figures made up for the purpose."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from packnet_deploy.bench.plot import check_plot, draw
from packnet_deploy.bench.report import BenchReport
from packnet_deploy.errors import EnvironmentFault, UsageError

Figure = pytest.importorskip("matplotlib.figure", reason="drawing needs matplotlib (extra: report)").Figure


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_a_plot_of_everything(engines: BenchReport, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bench{suffix}"
    check_plot(path)
    draw(engines, path)
    assert path.stat().st_size > 5000
    if suffix == ".svg":
        drawn = path.read_text()
        for words in ("refit tensorrt-rtx graph", "together", "no copies", "repeated", "GPU memory", "Throughput"):
            assert words in drawn
        draw(engines, tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_text() == drawn, "the same figures, the same picture"


def test_a_plot_shows_the_figures_of_the_report(engines: BenchReport, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[tuple[list[float], list[float]]]] = {}

    def keep(figure: Figure, path: Path, **_: object) -> None:
        for axes in figure.axes:
            drawn[axes.get_title()] = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]

    monkeypatch.setattr(Figure, "savefig", keep)
    only = dataclasses.replace(engines, measurements=engines.measurements[2:3])
    draw(only, Path("unused.png"))
    throughput, latency, switch, _ = drawn.values()
    assert throughput == [([1, 8], [300.0, 2400.0])], "no switches where that was measured"
    assert [x for x, _ in latency if len(x) == 2] == [[2.5, 3.0]] * 3, "p50 to p99 of each kind, at batch 1"
    assert switch == [([0.75, 0.875], [0, 0]), ([0.75], [0])]


def test_a_plot_that_cannot_be_drawn_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"b\.gif: expected a name that ends in \.svg, \.png, \.pdf"):
        check_plot(tmp_path / "b.gif")
    with pytest.raises(EnvironmentFault, match="no such folder"):
        check_plot(tmp_path / "no" / "b.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentFault, match=r"packnet-deploy\[report\]"):
        check_plot(tmp_path / "b.svg")
