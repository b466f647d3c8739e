"""Which request takes which lane: one that is at its task, else the one that was idle for longest; else it waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from packnet_deploy.trt.lane import Lane


class Lanes:
    """The lanes of one engine.

    Attributes:
        all: of them, whoever has them.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.all = tuple(lanes)
        self._turn = threading.Condition()
        self._free = list(lanes)  # the one that was used last comes last
        self._closed = False

    @contextlib.contextmanager
    def take(self, task: int = 0, latest: bool = False) -> Iterator[Lane]:
        """A lane, to this thread alone, its GPU made current there.

        Args:
            task: the index of the task that it is for; 0 for none.
            latest: the one that was used last, whatever its task.

        Raises:
            RuntimeError: closed.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._closed or self._free)
            if self._closed:
                raise RuntimeError("Engine: it is closed; load it again")
            lane = self._free[-1 if latest else 0]
            lane = next((free for free in self._free if task and free.task == task), lane)
            self._free.remove(lane)
        try:
            lane.device.make_current()
            yield lane
        finally:
            with self._turn:
                self._free.append(lane)
                self._turn.notify_all()

    def close(self) -> bool:
        """Let no request have a lane any more, and wait for those under way; False if that was done before."""
        with self._turn:
            if self._closed:
                return False
            self._closed = True
            self._turn.notify_all()  # whoever waits for a lane need not any longer
            self._turn.wait_for(lambda: len(self._free) == len(self.all))
            return True
