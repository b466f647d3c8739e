"""How training shows its progress: bars on a terminal, one plain line an epoch everywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


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

    def phase(self, name: str, epochs: int, batches: int) -> None:
        self._name, self._epochs, self._begun = name, epochs, time.perf_counter()
        self._images = 0

    def batch(self, images: int, loss: float) -> None:
        self._images += images

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        passed = time.perf_counter() - self._begun
        left = passed / epoch * (self._epochs - epoch)
        self._line(
            f"{self._name}  epoch {epoch}/{self._epochs}  loss {loss:.3f}  validation {100 * accuracy:.1f} %  "
            f"{self._images / passed:,.0f} images/s  {left:.0f} s left"
        )

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class BarProgress(PlainProgress):
    """The same on a terminal: one bar a phase, with images/s, loss, accuracy and the time left."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(console)
        self._bars: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def phase(self, name: str, epochs: int, batches: int) -> None:
        super().phase(name, epochs, batches)
        self._accuracy = ""
        self._bar = self._bars.add_task(name, total=epochs * batches, figures="")

    def batch(self, images: int, loss: float) -> None:
        super().batch(images, loss)
        assert self._bar is not None
        rate = self._images / (time.perf_counter() - self._begun)
        self._bars.update(self._bar, advance=1, figures=f"{rate:,.0f} images/s  loss {loss:.3f}{self._accuracy}")

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        self._accuracy = f"  validation {100 * accuracy:.1f} %"


def progress(console: Console) -> PlainProgress:
    """Bars where there is a terminal to draw them on."""
    return BarProgress(console) if console.is_terminal else PlainProgress(console)
