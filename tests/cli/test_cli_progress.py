"""Training's progress: bars on a terminal, plain lines elsewhere, the same figures in both."""

from __future__ import annotations

import io
import re

from rich.console import Console

from packnet_deploy.cli.progress import BarProgress, PlainProgress, progress


def watched(console: Console) -> str:
    """What two phases of two epochs, two batches each, print on ``console``."""
    assert isinstance(console.file, io.StringIO)
    with progress(console) as watcher:
        for phase in ("train", "retrain"):
            watcher.phase(f"birds: {phase}", epochs=2, batches=2)
            for epoch in (1, 2):
                for _ in range(2):
                    watcher.batch(images=32, loss=1.25)
                watcher.epoch(epoch, loss=1.25, accuracy=0.875)
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    assert type(progress(console)) is PlainProgress
    lines = watched(console).splitlines()
    assert len(lines) == 4, "one an epoch"
    pattern = r"birds: (re)?train  epoch \d/2  loss 1\.250  validation 87\.5 %  [\d,]+ images/s  \d+ s left"
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    assert lines[1].endswith(" 0 s left")


def test_bars_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    assert type(progress(console)) is BarProgress
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", watched(console))
    last = [line for line in re.split(r"[\r\n]+", shown) if line.strip()][-2:]
    for line, phase in zip(last, ("train", "retrain"), strict=True):
        assert line.startswith(f"birds: {phase} ")
        assert re.search(r"━{24} [\d,]+ images/s  loss 1\.250  validation 87\.5 % 0:00:00", line), "a full bar"
