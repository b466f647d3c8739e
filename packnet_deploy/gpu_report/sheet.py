"""The rows of one section of the GPU report, each written to a file as soon as it is measured.

What the file has is not measured again. So a section whose process dies goes on behind the row that it died of, and
what there was no time for is measured by the next run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from packnet_deploy.errors import CheckFailed
from packnet_deploy.fresh import one_line
from packnet_deploy.gpu_report.section import Cell

NOT_MEASURED = "not measured: "
DIED = f"{NOT_MEASURED}its process ended here"
NO_TIME = f"{NOT_MEASURED}no time left; the same command once more goes on here"


class Sheet:
    """Rows that were measured before, and that are being measured.

    Args:
        file: where they are kept; need not be there.
        seconds: how long new ones may take; one that was begun is ended.
    """

    def __init__(self, file: Path, seconds: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._until = clock() + seconds
        self._known = rows_in(file)

    def row(
        self, label: Sequence[Cell], columns: Sequence[str], measure: Callable[[], Sequence[Cell]]
    ) -> tuple[Cell, ...]:
        """A row of a table; where there are no figures, with the reason in the place of the first.

        A check that fails has been made, and is an answer: ``FAILED``.
        """
        blank = [None] * (len(columns) - len(label) - 1)
        known = self._known.get(tuple(label))
        if known is not None:
            return (*label, *known, *blank[: len(columns) - len(label) - len(known)])
        if self._clock() >= self._until:
            return (*label, NO_TIME, *blank)
        self._write(label, [DIED])  # what stands there if it does
        cells = self._measured(measure)
        self._write(label, cells)
        return (*label, *cells, *blank[: len(columns) - len(label) - len(cells)])

    def _measured(self, measure: Callable[[], Sequence[Cell]]) -> list[Cell]:
        try:
            return list(measure())
        except CheckFailed as error:
            return [f"FAILED: {one_line(error)}"]
        except Exception as error:  # whatever it is, the other rows count
            return [f"{NOT_MEASURED}{one_line(error)}"]

    def _write(self, label: Sequence[Cell], cells: Sequence[Cell]) -> None:
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps([list(label), list(cells)]) + "\n")


def rows_in(file: Path) -> dict[tuple[Cell, ...], list[Cell]]:
    """What a file has, by label; the last word on each."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {tuple(label): cells for label, cells in map(json.loads, lines)}


def forget_unmeasured(file: Path) -> None:
    """Leave in a file what need not be tried again."""
    kept = {label: cells for label, cells in rows_in(file).items() if not str(cells[0]).startswith(NOT_MEASURED)}
    file.write_text("".join(json.dumps([label, cells]) + "\n" for label, cells in kept.items()), encoding="utf-8")
