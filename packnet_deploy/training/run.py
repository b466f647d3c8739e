"""``packnet train``: the tasks asked for, by the method they ask for, in one session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from packnet_deploy.errors import UsageError
from packnet_deploy.pack.manifest import check_task_name
from packnet_deploy.training.checkpoint import StopRequest
from packnet_deploy.training.distributed import joined, wait_for_all
from packnet_deploy.training.fit import Watcher
from packnet_deploy.training.methods import method_of
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import Session, TaskResult, drop_stale, pick_device
from packnet_deploy.training.train_folder import TrainFolder


def train_tasks(
    tasks: Sequence[TrainOptions], pack_path: Path, watcher: Watcher, *, resume: bool = False
) -> Iterator[TaskResult]:
    """Train tasks one after the other into the pack at ``pack_path``, which is made if there is none.

    Each task is all or nothing. Tasks that the pack holds already are passed over where there are several, or with
    ``resume``. Several processes started by torchrun train together; each of them yields the results.

    Raises:
        UsageError: a request contradicts the pack, no weights are free, or an interrupted training is in the way.
        EnvironmentFault: data, weights or device are not to be had, or another process trains here.
        CheckFailed: a loss is not finite, or an earlier task changed.
        Interrupted: SIGINT or SIGTERM; training can be continued.
    """
    for options in tasks:
        check_task_name(options.task)
    method = method_of(tasks)
    device = pick_device(tasks[0].device)
    folder = TrainFolder.beside(pack_path)
    stop = StopRequest()
    with joined(device) as world, folder.held(world.writes), stop.listening():
        if world.writes:
            drop_stale(folder, pack_path)
        wait_for_all()
        if folder.checkpoint.exists() and not resume:
            raise UsageError(
                f"{folder.checkpoint}: a training was interrupted here; go on with it by --resume, "
                "or delete the file to start again"
            )
        if world.writes and not folder.checkpoint.exists():
            folder.write_tasks(tasks)  # else when it has gone on: what is asked for now may be refused
        session = Session(folder, device, watcher, world, stop, resume)
        for result in method(tasks, pack_path, session):
            if world.writes:
                folder.write_tasks(tasks)
            yield result
