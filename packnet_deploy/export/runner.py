"""A pack behind the runners' contract, its tasks run as their exports are: written, checked, loaded, nothing kept.

A task is exported when it is first asked for, so that a pack of many costs no more than those that are wanted.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from packnet_deploy.export.api import export_task
from packnet_deploy.pack.directory import OpenedPack, Pack
from packnet_deploy.runners.contract import Float32Array, check_task
from packnet_deploy.runners.devices import device_of
from packnet_deploy.runners.onnx import OnnxRunner


class ExportingRunner:
    """Tasks of a pack in ONNX Runtime, each held from its first request on.

    Args:
        tasks: those that will be asked for; all where None.
        device, threads: as ``OnnxRunner`` has them.

    Raises:
        UsageError: an unknown device; on entering: the pack has no such task.
        ArtefactError: on entering: the pack is damaged.
    """

    def __init__(
        self, pack: Pack, tasks: tuple[str, ...] | None = None, device: str = "cpu", threads: int | None = None
    ) -> None:
        device_of(device)  # or it is not one
        self.tasks = tuple(entry.name for entry in pack.tasks) if tasks is None else tasks
        self._pack = pack
        self._device, self._threads = device, threads
        self._open = ExitStack()
        self._opened: OpenedPack | None = None
        self._folder = Path()
        self._runners: dict[str, OnnxRunner] = {}

    def __enter__(self) -> ExportingRunner:
        self._opened = self._open.enter_context(self._pack.opened(self.tasks))
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._runners.clear()
        self._opened = None
        self._open.close()

    @property
    def pack(self) -> OpenedPack:
        """The pack as it is held open: what it is asked for here is not read again."""
        if self._opened is None:
            raise RuntimeError("ExportingRunner holds a pack only inside its with block")
        return self._opened

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """See ``Runner.infer``.

        Raises:
            ArtefactError: the pack is damaged.
            CheckFailed: the task's export does not answer as the pack says.
        """
        check_task(task, self.tasks)
        if task not in self._runners:
            self._runners[task] = self._exported(task)
        return self._runners[task].infer(images, task)

    def _exported(self, task: str) -> OnnxRunner:
        path = self._folder / f"{self.pack.task(task).index}.onnx"  # a task's name may be longer than a file's
        export_task(self.pack, task, path)
        return self._open.enter_context(OnnxRunner({task: path}, self._device, self._threads, rehearsed=True))
