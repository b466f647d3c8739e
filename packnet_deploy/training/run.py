"""``packnet train``: data, network, train → prune → retrain → freeze, and the pack grown by it, task after task.

What the stages of a task are is stages.py; this file runs them so that they can be stopped at any step, killed at
any moment, and continued to the same bits. Errors on the way are of the validation images, which choose epochs; the
test images are measured and decide nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from packnet_deploy.data import ImageSplit, TaskData, open_dataset
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack import Backbone, Pack, append_task, create_pack
from packnet_deploy.pack.manifest import check_task_name
from packnet_deploy.training.checkpoint import Checkpoint, StopRequest, read
from packnet_deploy.training.distributed import World, joined, require_same_owners, wait_for_all
from packnet_deploy.training.fit import Watcher, fit
from packnet_deploy.training.folder import TrainFolder
from packnet_deploy.training.keeper import Keeper
from packnet_deploy.training.loader import EvalLoader, TrainLoader, train_loader
from packnet_deploy.training.metrics import errors
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.older import changes, older_tasks, task_errors
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import to_json
from packnet_deploy.training.stages import Fit, Prune, rates, stages
from packnet_deploy.training.start import check_addition, network_of, new_network, own_classes, relearns
from packnet_deploy.training.trace import trace_skeleton

NOT_IN_RESULT = ("pack", "device", "workers")  # options that may differ when training goes on


@dataclass(frozen=True)
class TaskResult:
    """What training one task gave.

    Attributes:
        pack: the pack, grown.
        change: for every older task, the largest difference between its probe logits computed from the pack as it
            was and from the weights as they are now: 0.0, or training failed.
        skipped: images left out because they could not be read.
    """

    task: str
    pack: Pack
    change: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    """What the tasks of one command share.

    Attributes:
        resume: continue the task that was interrupted, if one was.
        tests: where the test images of tasks trained in this command are, to measure them again later.
    """

    folder: TrainFolder
    device: torch.device
    watcher: Watcher
    world: World
    stop: StopRequest = field(default_factory=StopRequest)
    resume: bool = False
    tests: dict[str, TrainOptions] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """A task's images as the loop wants them; all absent where a network is taken as it is, without data."""

    classes: tuple[str, ...]
    train: TrainLoader | None = None
    val: EvalLoader | tuple[()] = ()
    test: EvalLoader | tuple[()] = ()
    skipped: tuple[str, ...] = ()


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
    from packnet_deploy.training.methods import method_of  # which build on this file

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


def into_one_pack(
    tasks: Sequence[TrainOptions],
    pack_path: Path,
    session: Session,
    training: type[TaskTraining] | None = None,
    *,
    pass_over: bool | None = None,
) -> Iterator[TaskResult]:
    """PackNet: one task after the other into one pack.

    Args:
        training: how a task is trained; by default weight by weight, from labels or by relearning.
        pass_over: skip tasks that the pack holds; by default where there are several, or training goes on.
    """
    from packnet_deploy.training.relearn import Relearning  # which builds on this file

    skip = (len(tasks) > 1 or session.resume) if pass_over is None else pass_over
    for options in tasks:
        if not skip or options.task not in _names(pack_path):
            usual = Relearning if relearns(options) else TaskTraining
            yield (training or usual)(options, pack_path, session).run()
        session.tests[options.task] = options


class TaskTraining:
    """One task from its first stage to its place in the pack.

    A method that packs otherwise overrides ``begin``, ``prune`` and ``freeze``.
    """

    def __init__(self, options: TrainOptions, pack_path: Path, session: Session) -> None:
        self.options, self.session, self.path = options, session, pack_path
        self.pack = Pack.open(pack_path) if pack_path.exists() else None
        if self.pack is not None:
            check_addition(options, self.pack)
        seed(options.seed)
        data = open_data(options)
        if self.pack is None:
            self.network, self.arch, self.keep_head = new_network(options)
        else:
            self.network, self.keep_head = network_of(self.pack, options.layers), False
            self.arch = self.pack.backbone.arch
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.network.module.to(session.device, memory_format=layout)  # type: ignore[call-overload]
        self.images = images_of(options, data, self.network, session, self.keep_head)
        self.older = older_tasks(self.network, self.pack)
        identity = {k: v for k, v in to_json(options).items() if k not in NOT_IN_RESULT}
        identity |= {"parent": self.pack.manifest.last_sha256 if self.pack else "", "processes": session.world.size}
        if data is not None:  # not its pixels, but what most often changes
            identity |= {"classes": list(data.classes), "training images": len(data.train)}
        self.checkpoint = Checkpoint(session.folder.checkpoint, identity)
        self.keeper = Keeper(options.task, self.network, self.checkpoint, session.folder, session.world, session.stop)

    def run(self) -> TaskResult:
        options, network, session = self.options, self.network, self.session
        if not (session.resume and self.keeper.resume()):
            self.begin()
            if session.world.size > 1:  # each process its own dropout
                torch.manual_seed(options.seed + session.world.rank * 7919)
        graph = None
        if self.pack is None:
            graph = trace_skeleton(network.module, network.head, network.spec).SerializeToString(deterministic=True)
        plan = stages(options, network.state.task)
        for index in range(self.keeper.stage, len(plan)):
            self.keeper.stage = index
            match plan[index]:
                case Fit() as stage:
                    self._fit(stage)
                case Prune(part):
                    if "trained" not in self.keeper.notes:
                        self._measure("trained")
                    self.prune(part)
                    if part == 1:
                        self._measure("pruned")
        require_same_owners(network.state.owners)
        self.freeze()  # rounds; what is measured below is what the pack will hold
        self._measure("retrained")
        moved = changes(network, self.older)
        self._write_results()
        grown = self._commit(graph)
        return TaskResult(options.task, grown, moved, self.images.skipped)

    def begin(self) -> None:
        """Claim the task's weights."""
        self.network.begin(
            self.options.task,
            self.images.classes,
            keep_head=self.keep_head,
            layers=self.options.layers,
            separate=self.options.separate,
        )

    def prune(self, part: float) -> None:
        """Give back ``part`` of what the whole pruning gives back."""
        self.network.prune(rates(self.options, part, self.network.packable))

    def freeze(self) -> None:
        """The task's weights are final."""
        self.network.freeze(self.options.value_dtype)

    def _fit(self, stage: Fit) -> None:
        if self.images.train is None:  # start.py saw to it that no epochs were asked for then
            raise AssertionError("a phase without images")
        name = f"{self.options.task}: {stage.phase}"
        fit(
            self.network,
            stage,
            self.images.train,
            self.images.val,
            self.session.watcher,
            name=name,
            supervisor=self.keeper,
        )

    def _measure(self, moment: str) -> None:
        """Errors at one moment of the task, on the validation and on the test images."""
        splits = {"val": self.images.val, "test": self.images.test}
        found = {split: errors(self.network.module, batches) for split, batches in splits.items()}
        measured = {split: [round(e, 6) for e in pair] for split, pair in found.items() if not math.isnan(pair.top1)}
        self.keeper.notes[moment] = measured

    def _write_results(self) -> None:
        """The test errors of this task and of the older ones whose images are known, into results.csv."""
        session, task = self.session, self.options.task
        rows = []
        for older, options in session.tests.items():
            if self.pack is None or older not in self.older or (data := open_data(options)) is None:
                continue
            test = eval_loader(data.test, options, self.network, session)
            rows.append([task, older, *(round(e, 6) for e in task_errors(self.network, self.pack, older, test))])
        if found := self.keeper.notes["retrained"].get("test"):
            rows.append([task, task, *found])
        if session.world.writes:
            session.folder.results().drop(task)  # of an earlier training, whose pack is gone
            session.folder.results().put(rows)

    def _commit(self, graph: bytes | None) -> Pack:
        """Put the task into the pack; the checkpoint has done its duty then."""
        new = self.network.new_task(self._report())
        if self.session.world.writes:
            if self.pack is None:
                assert graph is not None
                backbone = Backbone(self.arch, self.network.head)
                create_pack(self.path, backbone, self.network.spec, graph, self.network.packable, new)
            else:
                append_task(self.pack, new)
            self.checkpoint.remove()
        wait_for_all()
        return Pack.open(self.path)

    def _report(self) -> dict[str, Any]:
        keys = ("method", "prune_rate", "epochs", "retrain_epochs", "lr", "batch_size", "optimizer", "seed")
        errors_found = {moment: found for moment, found in self.keeper.notes.items() if found}
        report = {key: getattr(self.options, key) for key in keys}
        return report | ({"errors": errors_found} if errors_found else {})


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` to a device; under torchrun each process gets a GPU of its own.

    Raises:
        EnvironmentFault: CUDA was asked for and PyTorch has none here.
    """
    import os

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EnvironmentFault("--device cuda: PyTorch finds no CUDA GPU here; use --device cpu, or check nvidia-smi")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise EnvironmentFault(
            f"--device cuda: process {local} of this machine expected a GPU of its own, got "
            f"{torch.cuda.device_count()} GPUs; start fewer processes (torchrun --nproc-per-node)"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def images_of(
    options: TrainOptions, data: TaskData | None, network: PackedNetwork, session: Session, has_head: bool = True
) -> Images:
    """Loaders over a task's images; this process's share of them."""
    if data is None:
        return Images(own_classes(network, has_head))
    train = train_loader(
        data,
        network.spec,
        options.batch_size,
        options.seed,
        options.workers,
        session.device,
        share=(session.world.rank, session.world.size),
    )
    val, test = (eval_loader(split, options, network, session) for split in (data.val, data.test))
    return Images(data.classes, train, val, test, data.skipped)


def eval_loader(split: ImageSplit, options: TrainOptions, network: PackedNetwork, session: Session) -> EvalLoader:
    """This process's share of a split."""
    share = np.arange(session.world.rank, len(split), session.world.size)
    return EvalLoader(split.subset(share), network.spec, options.batch_size, session.device)


def open_data(options: TrainOptions) -> TaskData | None:
    if options.data is None:
        return None
    return open_dataset(options.data, seed=options.seed, skip_bad_images=options.skip_bad_images)


def drop_stale(folder: TrainFolder, pack_path: Path) -> None:
    """Remove the checkpoint of a task that got into the pack just before a crash."""
    if folder.checkpoint.exists() and read(folder.checkpoint)["identity"].get("task") in _names(pack_path):
        folder.checkpoint.unlink()


def _names(pack_path: Path) -> list[str]:
    return [entry.name for entry in Pack.open(pack_path).tasks] if pack_path.exists() else []


def seed(value: int) -> None:
    """Begin every generator anew."""
    random.seed(value)
    np.random.seed(value % (1 << 32))
    torch.manual_seed(value)
