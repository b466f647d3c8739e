"""Plans behind the runners' contract: one engine that is switched when another task is asked for, or an engine a task.

Loading, checking and switching are ``packnet_deploy.trt``'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import Float32Array, check_images, check_task
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar


class TensorrtRunner:
    """A plan, or plans of one task each; asking for another task than the last one switches, if it takes a switch.

    Args:
        plan: what ``packnet build`` wrote; or, of plans with switch ``none``, one for each task.
        pack: the one it was built from, or grown from that.
        bank, cuda_graph, device: as ``Engine.load`` has them.

    Raises (on making one):
        UsageError: no plan.
        ArtefactError: the pack or a sidecar is damaged, or a plan is not of the task it is given for.
        (on entering): what ``Engine.load`` raises.
    """

    def __init__(
        self,
        plan: Path | Mapping[str, Path],
        pack: Path,
        *,
        bank: str = "host",
        cuda_graph: bool = False,
        device: str = "cuda",
    ) -> None:
        self._pack = Pack.open(pack)
        self._options: dict[str, Any] = {"bank": bank, "cuda_graph": cuda_graph, "device": device}
        self._engines: dict[Path, Engine] = {}
        if isinstance(plan, Mapping):
            self._plans = {task: Path(path) for task, path in plan.items()}
            sidecars = {task: read_sidecar(path) for task, path in self._plans.items()}
        else:
            sidecar = read_sidecar(plan)
            sidecars = dict.fromkeys(_tasks_of(sidecar, self._pack), sidecar)
            self._plans = dict.fromkeys(sidecars, Path(plan))
        if not self._plans:
            raise UsageError("plans: expected at least one task's, got none")
        for task, sidecar in sidecars.items():
            if task not in (known := _tasks_of(sidecar, self._pack)):
                raise ArtefactError(f"{self._plans[task]}: expected a plan of task '{task}', got one of {known[0]}")
        self._inputs = {task: sidecar.input.shape for task, sidecar in sidecars.items()}
        self.tasks = tuple(self._plans)

    def __enter__(self) -> TensorrtRunner:
        try:
            for path in dict.fromkeys(self._plans.values()):
                self._engines[path] = Engine.load(path, self._pack, **self._options)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """See ``Runner.infer``. Any number of images; a switch, if there is one, is in the time it takes.

        Raises:
            ArtefactError, EnvironmentFault: the switch or the request failed.
        """
        check_task(task, self.tasks)
        check_images(images, (None, *self._inputs[task]))
        return self.engine(task).infer(images, task)

    def engine(self, task: str) -> Engine:
        """The engine that serves ``task``, for what the contract does not have: memory, switching alone."""
        check_task(task, self.tasks)
        if self._plans[task] not in self._engines:
            raise RuntimeError("TensorrtRunner holds no engine outside its with block")
        return self._engines[self._plans[task]]


def _tasks_of(sidecar: Sidecar, pack: Pack) -> tuple[str, ...]:
    """The tasks that a plan can be; what is trained later is one of them where weights are what is switched."""
    known = pack.tasks if sidecar.switch in ("refit", "bind") else sidecar.tasks
    return tuple(task.name for task in known)
