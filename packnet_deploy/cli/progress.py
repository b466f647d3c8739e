"""How training shows its progress: bars on a terminal, one plain line an epoch everywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from packnet_deploy.cli.show import percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from packnet_deploy.training.inference import Errors


class PlainProgress:
    """A ``fit.Watcher`` that prints one line an epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, text: str) -> None:
        self._line(text)

    def phase(self, name: str, begin: int, end: int, batches: int) -> None:
        self._name, self._first, self._end, self._begun = name, begin, end, time.perf_counter()
        self._images = 0

    def batch(self, images: int, loss: float) -> None:
        self._images += images

    def epoch(self, epoch: int, loss: float, val: Errors) -> None:
        passed = time.perf_counter() - self._begun
        left = passed / (epoch - self._first) * (self._end - epoch)
        self._line(
            f"{self._name}  epoch {epoch}/{self._end}  loss {loss:.3f}  validation error {percent(val.top1)}  "
            f"{self._images / passed:,.0f} images/s  {left:.0f} s left"
        )

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class BarProgress(PlainProgress):
    """The same on a terminal: one bar a schedule, with images/s, loss, error and the time left."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(console)
        self._bars: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TimeRemainingColumn(),  # before the figures: where a terminal is narrow, it is these that are cut
            TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._bar: TaskID | None = None
        self._done = 0  # epochs of its schedule

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def phase(self, name: str, begin: int, end: int, batches: int) -> None:
        begun = self._bar if 0 < begin == self._done and end == self._end else None
        super().phase(name, begin, end, batches)
        if begun is not None:  # one bar for a schedule, whatever happens to the network on the way
            self._bars.update(begun, description=name)
        else:
            self._error = ""
            self._bar = self._bars.add_task(name, total=(end - begin) * batches, figures="")

    def batch(self, images: int, loss: float) -> None:
        super().batch(images, loss)
        assert self._bar is not None
        rate = self._images / (time.perf_counter() - self._begun)
        self._bars.update(self._bar, advance=1, figures=f"{rate:,.0f} images/s  loss {loss:.3f}{self._error}")

    def epoch(self, epoch: int, loss: float, val: Errors) -> None:
        self._done = epoch
        self._error = f"  validation error {percent(val.top1)}"


def progress(console: Console) -> PlainProgress:
    """Bars where there is a terminal to draw them on."""
    return BarProgress(console) if console.is_terminal else PlainProgress(console)
