"""Training all tasks of a recipe in one network that ends as one pack: what joint training and LwF have in common.

What they differ in is a function: which images the network learns from, in what order, and what is minimised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor, nn

from packnet_deploy.data import TaskData
from packnet_deploy.errors import UsageError
from packnet_deploy.pack import InputSpec, Pack
from packnet_deploy.training.distributed import wait_for_all
from packnet_deploy.training.fit import Batches, Objective, fit
from packnet_deploy.training.inference import errors
from packnet_deploy.training.methods.shared import SharedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.session import (
    Images,
    Session,
    TaskResult,
    eval_loader,
    identity_of,
    images_of,
    open_data,
    seed,
)
from packnet_deploy.training.stages import Fit, stages
from packnet_deploy.training.start import new_network

EvalBatches = Iterable[tuple[Tensor, Tensor]]
Network = TypeVar("Network", bound=SharedNetwork)


class TogetherTraining(Generic[Network]):
    """The tasks of one recipe, from images to a pack that appears when all are trained.

    Args:
        network_of: makes the network that they share, of a module, its head's name and its input.
    """

    def __init__(
        self,
        tasks: Sequence[TrainOptions],
        pack_path: Path,
        session: Session,
        network_of: Callable[[nn.Module, str, InputSpec], Network],
    ) -> None:
        self.tasks, self.path, self.session = tasks, pack_path, session
        first = tasks[0]
        seed(first.seed)
        self._given, self.arch, self._keep_head = new_network(first)
        session.place(self._given.module, first)
        self.network = network_of(self._given.module, self._given.head, self._given.spec)
        identity = {"task": tasks[-1].task, "tasks": [identity_of(task) for task in tasks]}
        self.keeper = session.keeper(first.task, self.network, identity)
        self._images: dict[str, Images] = {}  # of the tasks begun here, not before an interruption
        if session.resume:
            self.keeper.resume()

    def begin(self, options: TrainOptions, data: TaskData | None) -> Images:
        """A task's images, and its head in the network unless it was there when training was interrupted."""
        keep_head = self._keep_head and options.task == self.tasks[0].task
        images = images_of(options, data, self._given, self.session, keep_head)
        if options.task not in self.network.module.classes:
            seed(options.seed)
            self.network.add(options.task, images.classes, keep_head=keep_head)
            self.session.own_dropout(options.seed)
        self.network.module.chosen, self._images[options.task] = options.task, images
        return images

    def fit(self, name: str, stage: Fit, train: Batches, val: EvalBatches, objective: Objective) -> None:
        """One stage, as the keeper supervises it."""
        label = f"{name}: {stage.phase}"
        fit(
            self.network,
            stage,
            train,
            val,
            self.session.watcher,
            name=label,
            objective=objective,
            supervisor=self.keeper,
        )

    def measure(self, images: Mapping[str, Images]) -> None:
        """Errors on the test images of every task so far, at the end of a stage of which ``images`` were trained on.

        What is measured last is what the pack will hold.
        """
        module, so_far = self.network.module, [task for task in self.tasks if task.task in self.network.module.classes]
        if last := len(so_far) == len(self.tasks):
            self.network.round(self.tasks[0].value_dtype)
        rows = []
        for options in so_far:
            own = images.get(options.task)
            module.chosen = options.task
            found = {"val": errors(module, own.val)} if own else {}
            found["test"] = errors(module, own.test if own else self._test_images(options))
            known = {split: [round(e, 6) for e in pair] for split, pair in found.items() if not math.isnan(pair.top1)}
            moments = self.keeper.notes.setdefault(options.task, {})
            if own:
                moments["trained"] = known
            if last:
                moments["retrained"] = known
            if "test" in known:
                rows.append([so_far[-1].task, options.task, *found["test"]])
        if self.session.world.writes and rows:
            self.session.folder.results().put(rows)

    def commit(self) -> Iterator[TaskResult]:
        """Write the pack; the checkpoint has done its duty then."""
        keys = ("method", "epochs", "lr", "batch_size", "optimizer", "seed")
        reports = {
            options.task: {key: getattr(options, key) for key in keys}
            | {"errors": {moment: found for moment, found in self.keeper.notes[options.task].items() if found}}
            for options in self.tasks
        }
        if self.session.world.writes:
            inputs = {options.task: self._input(options) for options in self.tasks}
            self.network.write_pack(self.path, self.arch, reports, inputs, self.tasks[0].value_dtype)
            self.keeper.done()
        wait_for_all()
        for options in self.tasks:
            images = self._images.get(options.task)
            yield TaskResult(options.task, Pack.open(self.path), skipped=images.skipped if images else ())

    def _input(self, options: TrainOptions) -> InputSpec:
        """How a task's images become the input."""
        if options.task in self._images:
            return self._images[options.task].input
        data = open_data(options)
        return self._given.spec if data is None else self._given.spec.framed(options.framing, data.train.boxed)

    def _test_images(self, options: TrainOptions) -> EvalBatches:
        data = open_data(options)
        return () if data is None else eval_loader(data.test, options, self._given, self.session)


def train_together(
    tasks: Sequence[TrainOptions],
    pack_path: Path,
    session: Session,
    train: Callable[[TogetherTraining[Network]], None],
    network_of: Callable[[nn.Module, str, InputSpec], Network],
) -> Iterator[TaskResult]:
    """Train all tasks, unless the pack holds just these.

    Args:
        train: trains what is left to train, through ``begin``, ``fit`` and ``measure``.

    Raises:
        UsageError: the pack exists, with other tasks.
    """
    if not pack_path.exists():
        training = TogetherTraining(tasks, pack_path, session, network_of)
        train(training)
        yield from training.commit()
    elif [entry.name for entry in Pack.open(pack_path).tasks] != [options.task for options in tasks]:
        raise UsageError(
            f"{pack_path}: exists already, and method {tasks[0].method} trains the tasks of a pack together; "
            "choose another pack"
        )


def training_stage(options: TrainOptions) -> Fit | None:
    """The epochs before pruning, of a method that does not prune; None if there are none."""
    unpruned = replace(options, prune_steps=1, retrain_epochs=0, retrain_milestones=None)
    return next((stage for stage in stages(unpruned, 1) if isinstance(stage, Fit) and stage.phase == "train"), None)
