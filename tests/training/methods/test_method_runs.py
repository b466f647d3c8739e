"""Every method from images to packs, through the same ``train_tasks``: what it leaves behind, and resuming it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from packnet_deploy.errors import Interrupted, UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training import backbones
from packnet_deploy.training.inference import Errors
from packnet_deploy.training.methods import method_of
from packnet_deploy.training.methods.filters import FilterPacking
from packnet_deploy.training.options import METHODS, TrainOptions
from packnet_deploy.training.run import TaskResult, train_tasks
from packnet_deploy.training.train_folder import TrainFolder

Coloured = Callable[..., Path]
Recipe = Callable[..., list[TrainOptions]]


class Watching:
    """Remembers the phases, and sends a signal to itself at a step if asked to."""

    def __init__(self, stop_at: int = 0) -> None:
        self.phases = list[tuple[str, int, int]]()
        self.steps, self.stop_at = 0, stop_at

    def note(self, text: str) -> None: ...

    def phase(self, name: str, begin: int, end: int, batches: int) -> None:
        self.phases.append((name, begin, end))

    def batch(self, images: int, loss: float) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch(self, epoch: int, loss: float, val: Errors) -> None: ...


@pytest.fixture
def recipe(coloured: Coloured) -> Recipe:
    """``recipe("lwf")``: three small tasks, on 2, 3 and 2 colours."""
    folders = [coloured("a", classes=2), coloured("b", classes=3), coloured("c", classes=2, train=6, test=4)]

    def tasks(method: str, count: int = 3, **changes: Any) -> list[TrainOptions]:
        common: dict[str, Any] = {
            "method": method, "epochs": 4 if method == "lwf" else 2, "retrain_epochs": 1, "batch_size": 6, "lr": 0.02,
            "prune_rate": 0.3, "device": "cpu",
        }  # fmt: skip
        own = {"a": {"arch": "quickstart", "weights": "none", "image_size": 16}, "b": {"framing": "pad"}}
        return [
            TrainOptions(task=folder.name, data=str(folder), **(common | own.get(folder.name, {}) | changes))
            for folder in folders[:count]
        ]

    return tasks


def run(tasks: list[TrainOptions], path: Path, watcher: Watching | None = None, **options: Any) -> list[TaskResult]:
    return list(train_tasks(tasks, path, watcher or Watching(), **options))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*") if p.is_file() and ".pack" in str(p)
    }


def owned(pack: Pack) -> list[int]:
    """How many weights each task owns, and at the end how many are free."""
    owners = np.concatenate([owner.reshape(-1) for owner in pack.bank().owners.values()])
    return [int((owners == task).sum()) for task in (*range(1, len(pack.tasks) + 1), 0)]


class Whole(NamedTuple):
    """A method's three tasks, trained without a break."""

    folder: Path
    results: list[TaskResult]
    watcher: Watching


_whole: dict[str, Whole] = {}


@pytest.fixture
def whole(recipe: Recipe, tmp_path: Path) -> Callable[[str], Whole]:
    """``whole("lwf")``, trained once for all tests."""

    def train(method: str) -> Whole:
        if method not in _whole:
            watcher, folder = Watching(), tmp_path / "whole"
            folder.mkdir()
            _whole[method] = Whole(folder, run(recipe(method), folder / "p.pack", watcher), watcher)
        return _whole[method]

    return train


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_packs_that_verify_and_the_same_logs(method: str, whole: Callable[[str], Whole]) -> None:
    folder, results, _ = whole(method)
    assert [result.task for result in results] == ["a", "b", "c"]
    for path in {result.pack.path for result in results}:
        assert all(check.passes for check in verify_pack(Pack.open(path)))
    kept = TrainFolder(folder / "p.train")
    assert not kept.checkpoint.exists()
    assert ("c", "c") in {(stage, task) for stage, task, *_ in kept.results().rows()}
    assert {row[0] for row in kept.log().rows()} == ({"joint"} if method == "joint" else {"a", "b", "c"})
    for result in results:
        pack = Pack.open(result.pack.path)
        assert pack.task_input(result.task) == pack.input.framed("pad" if result.task == "b" else None, boxes=False)
        report = pack.header(result.task).report
        assert report["method"] == method
        assert 0 <= report["errors"]["retrained"]["test"][0] <= 1


@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_resumed_every_method_comes_to_the_same_bytes(
    method: str, recipe: Recipe, whole: Callable[[str], Whole], tmp_path: Path
) -> None:
    parts, tasks, expected = tmp_path / "parts", recipe(method), whole(method)
    parts.mkdir()
    third, steps = expected.watcher.steps // 3, 0
    for number, stop_at in enumerate((third, third, 0)):  # steps counted from the last stop
        watcher = Watching(stop_at)
        with pytest.raises(Interrupted) if stop_at else contextlib.nullcontext():
            run(tasks, parts / "p.pack", watcher, resume=number > 0)
        steps += watcher.steps
    assert steps == expected.watcher.steps  # none was done twice
    assert contents(parts) == contents(expected.folder)


def test_classifier_only_leaves_the_first_tasks_network_alone(whole: Callable[[str], Whole]) -> None:
    pack = whole("classifier-only").results[-1].pack
    first, *others = owned(pack)
    assert first > 0
    assert others == [0, 0, 0]
    tensors = [pack.load_task(name).tensors for name in "abc"]
    for name, values in tensors[0].items():
        if not name.startswith("head."):
            assert all(np.array_equal(values, other[name]) for other in tensors[1:])


def test_head_and_norm_changes_normalisation_beside_the_classifier_and_no_weight(
    whole: Callable[[str], Whole],
) -> None:
    pack = whole("head-and-norm").results[-1].pack
    first, *others = owned(pack)
    assert first > 0
    assert others == [0, 0, 0]
    weights = {param.name for param in pack.packable}
    given, *added = [pack.load_task(name).tensors for name in "abc"]
    norms = {name for name in given if name not in weights and not name.startswith("head.")}
    assert {name.rpartition(".")[2] for name in norms} == {"weight", "bias", "running_mean", "running_var"}
    for own in added:
        assert all(np.array_equal(given[name], own[name]) for name in weights)
        assert not any(np.array_equal(given[name], own[name]) for name in norms)


def test_head_and_norm_is_classifier_only_where_there_is_no_normalisation(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "quickstart_network", without_normalisation)
    packs = [run(recipe(m, count=2), tmp_path / f"{m}.pack")[-1].pack for m in ("head-and-norm", "classifier-only")]
    for task in "ab":
        one, two = (pack.load_task(task).tensors for pack in packs)
        assert one.keys() == two.keys()
        assert all(np.array_equal(values, two[name]) for name, values in one.items())


def without_normalisation(classes: int) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.add_module("head", nn.Linear(8, classes))
    return network


def test_individual_packs_do_not_depend_on_one_another(
    recipe: Recipe, whole: Callable[[str], Whole], tmp_path: Path
) -> None:
    together = whole("individual")
    assert [result.pack.path.name for result in together.results] == ["p-a.pack", "p-b.pack", "p-c.pack"]
    assert all(owned(result.pack)[1] == 0 for result in together.results)  # unpruned
    alone = tmp_path / "alone"
    alone.mkdir()
    run([replace(recipe("individual")[2], arch="quickstart", weights="none", image_size=16)], alone / "p.pack")
    for name, content in contents(alone).items():
        assert content == contents(together.folder)[name]


def test_filters_go_by_and_by_judged_anew(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, scores = list[int](), list[Tensor]()
    prune = FilterPacking.prune

    def noted(self: FilterPacking, judged: Tensor, rate: float) -> None:
        prune(self, judged, rate)
        free.append(int((self.owners == 0).sum()))
        scores.append(judged)

    monkeypatch.setattr(FilterPacking, "prune", noted)
    watcher, steps = Watching(), 4
    tasks = recipe("filter-pruning", count=1, prune_steps=steps, retrain_epochs=steps, prune_rate=0.25)
    run(tasks, tmp_path / "p.pack", watcher)
    assert [phase[1:] for phase in watcher.phases] == [(epoch, 2 + steps) for epoch in (0, 1, 2, 3)]
    channels = 16 + 32 + 64 + 64 + 128 + 128
    assert free == [round(channels * step / 16) for step in range(1, steps + 1)]
    assert not any(torch.equal(one, two) for one, two in itertools.pairwise(scores))


@pytest.mark.parametrize("method", ["joint", "lwf"])
def test_a_shared_networks_pack_gives_everything_to_task_one(method: str, whole: Callable[[str], Whole]) -> None:
    pack = whole(method).results[-1].pack
    first, *others = owned(pack)
    assert first > 0
    assert others == [0, 0, 0]
    assert [entry.classes for entry in pack.tasks] == [2, 3, 2]


def test_lwf_measures_every_task_at_every_stage_and_warms_new_heads_up(whole: Callable[[str], Whole]) -> None:
    folder, results, watcher = whole("lwf")
    rows = TrainFolder(folder / "p.train").results().rows()
    stages = [(stage, task) for stage, task, *_ in rows]
    assert stages == [("a", "a"), ("b", "a"), ("b", "b"), ("c", "a"), ("c", "b"), ("c", "c")]
    last = {task: float(top1) for stage, task, top1, _ in rows if stage == "c"}
    for task, error in last.items():  # what the pack holds is what was measured last
        report = Pack.open(results[0].pack.path).header(task).report
        assert report["errors"]["retrained"]["test"][0] == pytest.approx(error, abs=1e-6)
    assert watcher.phases == [
        ("a: train", 0, 4),
        ("b: warm-up", 0, 4),
        ("b: train", 1, 4),
        ("c: warm-up", 0, 4),
        ("c: train", 1, 4),
    ]


def test_lwf_begins_with_a_trained_network_as_it_is(recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, _ = backbones.build("quickstart", 4)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    first = TrainOptions(
        task="given", method="lwf", arch="quickstart", weights=str(tmp_path / "w.pth"), image_size=16,
        epochs=0, retrain_epochs=0, device="cpu",
    )  # fmt: skip
    watcher = Watching()
    *_, last = run([first, recipe("lwf")[1]], tmp_path / "p.pack", watcher)
    assert [name for name, *_ in watcher.phases] == ["b: warm-up", "b: train"]
    assert [entry.classes for entry in last.pack.tasks] == [4, 3]
    assert not np.array_equal(last.pack.load_task("given").tensors["head.weight"], module.head.weight.detach().numpy())


@pytest.mark.parametrize("method", ["joint", "lwf"])
def test_a_finished_pack_is_passed_over_and_another_one_refused(method: str, recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "p.pack"
    run(recipe(method, count=2), path)
    before, watcher = contents(tmp_path), Watching()
    assert run(recipe(method, count=2), path, watcher) == []
    assert watcher.steps == 0
    with pytest.raises(UsageError, match="together"):
        run(recipe(method, count=3), path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_the_papers_protocol(method: str, recipe: Recipe) -> None:
    """What a protocol says of packing is not asked for by whoever asks for the protocol."""
    assert callable(method_of(recipe(method, protocol="paper")))


def test_what_a_method_has_no_place_for_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pattern: method lwf"):
        run(recipe("lwf", pattern="2:4"), tmp_path / "p.pack")
    with pytest.raises(UsageError, match="one for all tasks"):
        run([*recipe("joint", count=1), *recipe("lwf", count=1)], tmp_path / "p.pack")
    assert not list(tmp_path.glob("p.*"))
