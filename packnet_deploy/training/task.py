"""One task from its images to its place in the pack: train → prune → retrain → freeze, measured and kept on the way.

What the stages are is stages.py. How a task takes its share of the network (``Packing``) and what it learns from
(``Lesson``) are the method's: methods/. Training can be stopped at any step, killed at any moment, and continued to
the same bits. Errors on the way are of the validation images, which choose epochs; the test images are measured and
decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Backbone, Pack, append_task, create_pack
from packnet_deploy.pack.growth import reserved
from packnet_deploy.training import rate
from packnet_deploy.training.distributed import require_same_owners, wait_for_all
from packnet_deploy.training.fit import Batches, Objective, fit
from packnet_deploy.training.inference import Errors, errors
from packnet_deploy.training.loader import TrainLoader
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.older import changes, older_tasks, task_errors
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.parts import find_head
from packnet_deploy.training.report import task_report, task_warnings
from packnet_deploy.training.search import Tried
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
from packnet_deploy.training.stages import Fit, Judge, Prune, Stage, stages
from packnet_deploy.training.start import check_addition, check_beginning, network_of, new_network
from packnet_deploy.training.trace import trace_skeleton


class Packing(Protocol):
    """How a task takes its share of the network; also what a checkpoint keeps of it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values that determine the result, beside the options."""

    def begin(self, classes: tuple[str, ...], keep_head: bool) -> None:
        """Claim what the task may change."""

    def prune(self, part: float, train: TrainLoader | None) -> None:
        """Give back ``part`` of what the whole pruning gives back; ``train`` is what importance may be judged by."""

    def freeze(self) -> None:
        """The task's weights are final."""

    def keep(self, pack_path: Path) -> dict[str, Any]:
        """Put what later tasks may want beside the pack, before the task is in it; what its report says of that."""

    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, snapshot: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Lesson:
    """What a task learns from.

    Attributes:
        objective: what is minimised; None: cross-entropy with the labels.
        verb: what it is called in place of a stage's phase, if it is something else than training.
        reaches_head: whether the head has a part in the objective. Several processes would wait for ever for the
            gradients of a head that has none.
    """

    train: Batches | None
    val: Iterable[tuple[Tensor, Tensor]] = ()
    objective: Objective | None = None
    verb: str = ""
    reaches_head: bool = True


class TaskTraining:
    """One task, from its first stage to its place in the pack.

    Args:
        packing_of: makes the ``Packing`` of this training; it may look at everything that is set up by then.
        lesson_of: makes its ``Lesson``; by default the task's own labelled images.
    """

    def __init__(
        self,
        options: TrainOptions,
        pack_path: Path,
        session: Session,
        packing_of: Callable[[TaskTraining], Packing],
        lesson_of: Callable[[TaskTraining], Lesson] | None = None,
    ) -> None:
        self.options, self.session, self.path = options, session, pack_path
        self.pack = Pack.open(pack_path) if pack_path.exists() else None
        if self.pack is not None:
            check_addition(options, self.pack)
        else:
            check_beginning(options)
        seed(options.seed)
        data = open_data(options)
        for note in () if data is None else data.notes:
            self._tell(note)
        self.network: PackedNetwork
        if self.pack is None:
            self.network, self.arch, self.keep_head = new_network(options)
        else:
            self.network, self.keep_head = network_of(self.pack), False
            self.arch = self.pack.backbone.arch
        session.place(self.network.module, options)
        self.images: Images = images_of(options, data, self.network, session, self.keep_head)
        self.counts = {} if data is None else {"val": len(data.val), "test": len(data.test)}
        if options.max_drop is not None and not self.counts.get("val"):
            raise UsageError(
                "--max-drop: expected validation images to see the drop on, got none; hold some out (--val-fraction)"
            )
        self.older = older_tasks(self.network, self.pack)
        identity = identity_of(options) | {"parent": self.pack.manifest.last_sha256 if self.pack else ""}
        if data is not None:  # not its pixels, but what most often changes
            identity |= {"classes": list(data.classes), "training images": len(data.train)}
        self.packing = packing_of(self)
        identity |= self.packing.identity
        self.lesson = lesson_of(self) if lesson_of else Lesson(self.images.train, self.images.val)
        self._keeper = session.keeper(options.task, self.packing, identity)

    def run(self) -> TaskResult:
        """Train the task and put it into the pack, which nobody else grows meanwhile."""
        writes_to = self.pack if self.session.world.writes else None
        with nullcontext() if writes_to is None else reserved(writes_to):
            return self._run()

    def _run(self) -> TaskResult:
        options, network, session, keeper = self.options, self.network, self.session, self._keeper
        if not (session.resume and keeper.resume()):
            self.packing.begin(self.images.classes, self.keep_head)
            session.own_dropout(options.seed)
        graph = None
        if self.pack is None:
            graph = trace_skeleton(network.module, network.head, network.spec).SerializeToString(deterministic=True)
        self._tell(rate.doubts(options, self.counts.get("val", 0)))
        while keeper.stage < len(plan := self._plan()):
            match plan[keeper.stage]:
                case Fit() as stage:
                    self._fit(stage)
                case Prune(part):
                    self._prune(part)
                case Judge() as stage:
                    self._judge(stage)
            keeper.stage += 1
        require_same_owners(network.state.owners)
        self.packing.freeze()  # rounds; what is measured below is what the pack will hold
        self._measure("retrained")
        moved = changes(network, self.older)
        self._write_results()
        warnings = task_warnings(options, keeper.notes, self.counts, first=self.pack is None)
        owned = sum(layer.owned[-1] for layer in network.capacity)
        report = task_report(options, keeper.notes, warnings, owned=owned, free=network.state.free)
        self._tell(rate.search_line(report))
        return TaskResult(options.task, self._commit(graph, report), moved, self.images.skipped, warnings)

    def _plan(self) -> tuple[Stage, ...]:
        """The stages, as far as they are known by now."""
        network, notes = self.network, self._keeper.notes
        patterned = any(param.pattern for param in network.packable)
        search, tried = rate.search_of(self.options, notes, self.counts.get("val", 0)), rate.tried_of(notes)
        return stages(self.options, network.state.task, patterned=patterned, search=search, tried=tried)

    def _tell(self, text: str | None) -> None:
        if text is not None:
            self.session.watcher.note(f"{self.options.task}: {text}")

    def _prune(self, part: float) -> None:
        keeper, searching = self._keeper, self.options.max_drop is not None
        if "trained" not in keeper.notes:
            self._measure("trained")
            if searching:
                keeper.hold()
        self.packing.prune(part, self.images.train)
        if part == 1 and not searching:
            self._measure("pruned")

    def _judge(self, stage: Judge) -> None:
        keeper = self._keeper
        search, error = rate.search_of(self.options, keeper.notes), errors(self.network.module, self.images.val).top1
        assert search is not None
        if stage.final:
            stays = search.within(error) or error <= search.found(rate.tried_of(keeper.notes)).error
        else:
            one = Tried(stage.rate, error, stage.whole)
            keeper.notes[rate.TRIED] = [*keeper.notes.get(rate.TRIED, []), list(one)]
            stays = search.stays(one)
        if stays:
            keeper.hold()
        elif stage.whole:
            keeper.go_back()

    def _fit(self, stage: Fit) -> None:
        lesson = self.lesson
        if lesson.train is None:  # start.py saw to it that no epochs were asked for then
            raise AssertionError("a phase without images")
        find_head(self.network.module, self.network.head).requires_grad_(lesson.reaches_head)
        with self.network.head_alone() if stage.head_alone else nullcontext():
            fit(
                self.network,
                stage,
                lesson.train,
                lesson.val,
                self.session.watcher,
                name=f"{self.options.task}: {lesson.verb or stage.phase}",
                objective=lesson.objective,
                supervisor=self._keeper,
            )

    def _measure(self, moment: str) -> None:
        """Errors at one moment of the task, on the validation and on the test images."""
        splits = {"val": self.images.val, "test": self.images.test}
        found = {split: errors(self.network.module, batches) for split, batches in splits.items()}
        self._keeper.notes[moment] = {split: _short(pair) for split, pair in found.items() if not math.isnan(pair.top1)}

    def _write_results(self) -> None:
        """The test errors of this task and of the older ones whose images are known, into results.csv."""
        session, task = self.session, self.options.task
        rows = []
        for older, options in session.tests.items():
            if self.pack is None or older not in self.older or (data := open_data(options)) is None:
                continue
            test = eval_loader(data.test, options, self.network, session)
            rows.append([task, older, *_short(task_errors(self.network, self.pack, older, test))])
        if found := self._keeper.notes["retrained"].get("test"):
            rows.append([task, task, *found])
        if session.world.writes:
            session.folder.results().drop(task)  # of an earlier training, whose pack is gone
            session.folder.results().put(rows)

    def _commit(self, graph: bytes | None, report: Mapping[str, Any]) -> Pack:
        """Put the task into the pack; the checkpoint has done its duty then."""
        new = self.network.new_task(report, self.images.input)
        if self.session.world.writes:
            new = replace(new, report={**new.report, **self.packing.keep(self.path)})
            if self.pack is None:
                assert graph is not None
                backbone = Backbone(self.arch, self.network.head)
                create_pack(self.path, backbone, self.network.spec, graph, self.network.packable, new)
            else:
                append_task(self.pack, new, is_reserved=True)
            self._keeper.done()
        wait_for_all()
        return Pack.open(self.path)


def _short(pair: Errors) -> list[float]:
    return [round(error, 6) for error in pair]
