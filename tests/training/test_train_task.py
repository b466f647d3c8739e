"""One task from a folder of images into a pack: what it does, what it refuses, and that it leaves nothing half done."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import NEW, QUICK, Silent, contents, make_training_small, recipe, small_classifier

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, PackNetError, UsageError
from packnet_deploy.pack import Pack, bank_sha256
from packnet_deploy.training import backbones, session
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import TaskResult, train_tasks
from packnet_deploy.training.train_folder import TrainFolder

Coloured = Callable[..., Path]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_small(monkeypatch.setattr)


def add(path: Path, task: str, data: Path | None, watcher: Silent | None = None, **changes: Any) -> TaskResult:
    new, where = {} if path.exists() else NEW, None if data is None else str(data)
    (result,) = train_tasks([TrainOptions(task=task, data=where, **(QUICK | new | changes))], path, watcher or Silent())
    return result


def owned(pack: Pack) -> list[float]:
    """The fraction of the weights that each task owns, and at the end the free one."""
    layers, size = pack.capacity(), pack.manifest.weights
    return [sum(layer.owned[i] for layer in layers) / size for i in range(len(pack.tasks))] + [
        sum(layer.free for layer in layers) / size
    ]


def test_tasks_one_after_the_other(tmp_path: Path, coloured: Coloured) -> None:
    path, watcher = tmp_path / "p.pack", Silent()
    first = add(path, "one", coloured("a"), watcher)
    before = contents(path)
    assert watcher.phases == [("one: train", 0, 3, 4), ("one: train", 1, 3, 4), ("one: retrain", 2, 3, 4)]
    assert (first.task, first.change, first.skipped) == ("one", {}, ())
    assert owned(first.pack) == pytest.approx([0.25, 0.75], abs=2e-3)

    second = add(path, "two", coloured("b", classes=3, train=7, val=3, test=3), separate=("norm",))
    after = contents(path)
    assert second.change == {"one": 0.0}
    assert all(after[name] == before[name] for name in before if name != "pack.json")
    assert set(after) - set(before) == {"deltas/0002-two.safetensors"}
    assert [(task.name, task.classes) for task in second.pack.tasks] == [("one", 2), ("two", 3)]
    assert owned(second.pack) == pytest.approx([0.25, 0.1875, 0.5625], abs=2e-3)
    assert [name for name in second.pack.load_task("two").tensors if name.endswith("running_mean")]
    for name in ("one", "two"):
        report = second.pack.header(name).report
        assert set(report["errors"]) == {"trained", "pruned", "retrained"}
        for moment in report["errors"].values():
            assert set(moment) == {"val", "test"}
            assert all(0 <= error <= 1 for pair in moment.values() for error in pair)
        assert (report["method"], report["epochs"], report["prune_rate"], report["seed"]) == ("packnet", 2, 0.75, 0)
    bank = second.pack.bank()
    frozen = bank_sha256(second.pack.packable, bank.values, bank.owners, bank.shared, 1)
    assert second.pack.header("two").frozen_sha256 == frozen


def test_a_third_task_finds_both_others_unchanged(tmp_path: Path, coloured: Coloured) -> None:
    """Whether or not the task in between has normalisation of its own."""
    path, data = tmp_path / "p.pack", coloured()
    add(path, "one", data, epochs=1, retrain_epochs=0)
    add(path, "two", data, epochs=1, retrain_epochs=0, separate=("norm", "biases"))
    third = add(path, "three", data, epochs=1, retrain_epochs=0, layers="classifier")
    assert third.change == {"one": 0.0, "two": 0.0}
    assert owned(third.pack)[2] == 0


def test_layers_and_steps_are_pruned_as_asked_for(tmp_path: Path, coloured: Coloured) -> None:
    path, data, watcher = tmp_path / "p.pack", coloured(), Silent()
    asked: dict[str, Any] = {"prune_rate": 0.6, "layer_rates": ("features.0.*=0.2", "f?.weight=1")}
    result = add(path, "one", data, watcher, epochs=1, retrain_epochs=3, prune_steps=3, **asked)
    assert watcher.phases == [("one: train", 0, 4, 4), ("one: retrain", 1, 4, 4), ("one: retrain", 2, 4, 4)]
    rates = {"features.0.weight": 0.2, "fc.weight": 1.0}
    for layer in result.pack.capacity():
        assert layer.free == round(rates.get(layer.name, 0.6) * layer.size), layer.name
    bank = result.pack.bank()
    assert not bank.values["fc.weight"].any()


def test_the_score_decides_what_is_kept(tmp_path: Path, coloured: Coloured) -> None:
    """By the same number of weights; and again after more training."""
    data, packs = coloured(), []
    for score in ("magnitude", "taylor"):
        result = add(tmp_path / f"{score}.pack", "one", data, score=score, prune_steps=2, retrain_epochs=2)
        packs.append(add(tmp_path / f"{score}.pack", "two", data, score=score).pack)
        assert result.pack.header("one").report["score"] == score
    by_magnitude, by_taylor = (pack.bank().owners for pack in packs)
    assert owned(packs[0]) == owned(packs[1])
    assert any((by_magnitude[name] != by_taylor[name]).any() for name in by_magnitude)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path, coloured: Coloured) -> None:
    data = coloured()
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        add(tmp_path / f"{name}.pack", "one", data, seed=seed)
        torch.rand(7)  # whatever else draws random numbers in between
        add(tmp_path / f"{name}.pack", "two", data, seed=seed)
    a, b, c = (contents(tmp_path / f"{name}.pack") for name in "abc")
    assert a == b
    assert [name for name in a if a[name] == c[name]] == ["graph.onnx"]


def test_test_images_are_looked_at_and_decide_nothing(
    tmp_path: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loop, where epochs are chosen, none but the validation images; and other test images, the same pack."""
    data, other = (coloured(name, train=6, val=3, test=4) for name in ("d", "e"))
    for label, wrong in (("red", "green"), ("green", "red")):
        for image in (other / "test" / label).iterdir():
            image.write_bytes((data / "test" / wrong / image.name).read_bytes())
    for part in ("train", "val"):
        for image in (data / part).rglob("*.png"):
            (other / part / image.parent.name / image.name).write_bytes(image.read_bytes())
    events: list[str] = []

    class Recorded(session.EvalLoader):
        def __init__(self, split: Any, *arguments: Any) -> None:
            super().__init__(split, *arguments)
            self.part = {6: "val", 8: "test"}[len(split)]

        def __iter__(self) -> Iterator[Any]:
            events.append(self.part)
            return super().__iter__()

    def noted(name: str, call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            events.append(name)
            return call(*arguments, **options)

        return wrapped

    monkeypatch.setattr(session, "EvalLoader", Recorded)
    for step in ("begin", "prune", "freeze"):
        monkeypatch.setattr(PackedNetwork, step, noted(step, getattr(PackedNetwork, step)))
    result = add(tmp_path / "p.pack", "t", data)
    measured = ["val", "test"]
    training = ["val", *measured, "prune", "val", "prune", *measured, "val"]
    assert events == ["begin", *training, "freeze", *measured]
    swapped = add(tmp_path / "q.pack", "t", other)
    assert swapped.pack.bank().sha256(1) == result.pack.bank().sha256(1)
    for one, opposite in zip(
        *(pack.header("t").report["errors"].values() for pack in (result.pack, swapped.pack)), strict=True
    ):
        assert one["val"] == opposite["val"]
        assert one["test"][0] == pytest.approx(1 - opposite["test"][0]), "every image bears the other label"


# -- recipes: what is kept beside the pack -------------------------------------------------------------------------


def test_a_recipes_log_and_results(tmp_path: Path, coloured: Coloured) -> None:
    path = tmp_path / "p.pack"
    folders = coloured("a"), coloured("b", classes=3)
    steps = {"schedule": "step", "warmup": 0.0, "retrain_lr_factor": 0.1}
    one, two = train_tasks(recipe(*folders, **steps), path, Silent())
    assert (one.task, two.task, two.change) == ("a", "b", {"a": 0.0})
    folder = TrainFolder.beside(path)
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["log.csv", "results.csv", "tasks.json"]
    epochs = [("train", 1, 0.05), ("train", 2, 0.005), ("retrain", 1, 0.05)]
    expected = [("a", *epoch) for epoch in epochs] + [("b", *epoch) for epoch in (*epochs[:2], ("retrain", 1, 0.005))]
    for row, (task, phase, epoch, lr) in zip(folder.log().rows(), expected, strict=True):
        assert row[:3] == [task, phase, str(epoch)]
        loss, top1, top5, seconds, speed = map(float, row[4:])
        assert (float(row[3]), top5) == (pytest.approx(lr), 0)
        assert 0 < loss < 10
        assert 0 <= top1 <= 1
        assert seconds > 0
        assert speed > 0
    measured = {(stage, task): (float(top1), float(top5)) for stage, task, top1, top5 in folder.results().rows()}
    tests = {task: tuple(two.pack.header(task).report["errors"]["retrained"]["test"]) for task in "ab"}
    assert measured == {
        ("a", "a"): tests["a"],
        ("b", "a"): pytest.approx(tests["a"], abs=1e-6),  # measured anew: it has not changed
        ("b", "b"): tests["b"],
    }


def test_a_recipe_trains_what_the_pack_does_not_hold(tmp_path: Path, coloured: Coloured) -> None:
    path, folders = tmp_path / "p.pack", (coloured("a"), coloured("b"))
    tasks = recipe(*folders, epochs=1, retrain_epochs=0)
    add(path, "a", folders[0], epochs=1, retrain_epochs=0, **NEW)
    watcher = Silent()
    assert [result.task for result in train_tasks(tasks, path, watcher)] == ["b"]
    assert [name for name, *_ in watcher.phases] == ["b: train"]
    stages = {(stage, task) for stage, task, *_ in TrainFolder.beside(path).results().rows()}
    assert stages == {("a", "a"), ("b", "a"), ("b", "b")}, "a's images are known, though others trained it"
    assert list(train_tasks(tasks, path, watcher)) == []


def test_rows_of_a_training_whose_pack_is_gone_do_not_stay(tmp_path: Path, coloured: Coloured) -> None:
    path, data = tmp_path / "p.pack", coloured()
    add(path, "t", data, epochs=3, retrain_epochs=1)
    shutil.rmtree(path)
    add(path, "t", data, epochs=1, retrain_epochs=0)
    assert [row[:3] for row in TrainFolder.beside(path).log().rows()] == [["t", "train", "1"]]


def test_images_that_cannot_be_read(tmp_path: Path, coloured: Coloured) -> None:
    data = coloured()
    bad = data / "train/red/03.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(EnvironmentFault, match=r"03\.png: expected a readable image"):
        add(tmp_path / "p.pack", "t", data)
    assert [entry.name for entry in tmp_path.iterdir()] == [data.name]
    assert add(tmp_path / "p.pack", "t", data, skip_bad_images=True, epochs=1).skipped == (str(bad),)


# -- a network taken as it is --------------------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A state dict of random weights, 3 classes."""
    torch.manual_seed(0)
    torch.save(small_classifier(3).state_dict(), tmp_path / "given.pth")
    return tmp_path / "given.pth"


TAKEN: dict[str, Any] = NEW | {"epochs": 0, "retrain_epochs": 0}


def test_a_trained_network_becomes_task_1_without_images(tmp_path: Path, coloured: Coloured, given: Path) -> None:
    path = tmp_path / "p.pack"
    result = add(path, "given", None, prune_rate=0.5, **(TAKEN | {"weights": str(given)}))
    assert "errors" not in result.pack.header("given").report
    assert not TrainFolder.beside(path).path.exists(), "no epochs, no figures, no folder"
    state, task = torch.load(given), result.pack.load_task("given")
    assert result.pack.header("given").classes == ("class 0", "class 1", "class 2")
    for name, value in task.tensors.items():
        before = state[name].numpy()
        kept = value != 0
        assert (value[kept] == before[kept]).all(), name
        if name in {p.name for p in result.pack.packable}:
            assert kept.sum() == value.size - round(value.size / 2)
        else:
            assert (value == before).all(), f"{name} is not pruned"
    second = add(path, "colours", coloured(), epochs=1, retrain_epochs=0)
    assert second.change == {"given": 0.0}


def test_weights_without_a_head_are_taken_with_a_stand_in(tmp_path: Path, given: Path) -> None:
    result = add(tmp_path / "p.pack", "given", None, **(TAKEN | {"weights": _headless(given)}))
    assert result.pack.header("given").classes == ("untrained head",)


def test_a_kept_head_may_be_retrained_on_its_own_classes_only(tmp_path: Path, coloured: Coloured, given: Path) -> None:
    options = TAKEN | {"weights": str(given), "retrain_epochs": 1}
    path = tmp_path / "p.pack"
    with pytest.raises(UsageError, match="task 'two': the network's own head has 3 classes, the data 2"):
        add(path, "two", coloured("two"), **options)
    assert not path.exists()
    result = add(path, "three", coloured("three", classes=3, train=4, test=2), **options)
    assert result.pack.header("three").classes == ("blue", "green", "red")


# -- refusals ------------------------------------------------------------------------------------------------------


def _headless(path: Path) -> str:
    state = {name: value for name, value in torch.load(path).items() if not name.startswith("head.")}
    torch.save(state, path)
    return str(path)


def _corrupt(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:999])
    return str(path)


@pytest.mark.parametrize(
    ("weights", "changes", "error", "message"),
    [
        (lambda p: f"{p}.none", {}, EnvironmentFault, r"--weights .*\.none: no such file"),
        (_corrupt, {}, ArtefactError, r"given\.pth: not a state-dict file"),
        (str, {"arch": "resnet18"}, ArtefactError, r"given\.pth: not resnet18's weights"),
        (str, {"arch": "squeezenet"}, UsageError, "did you mean squeezenet1_1 or squeezenet1_0"),
        (lambda _: "none", {}, UsageError, "--epochs 0: it keeps the given network, so give its --weights"),
        (str, {"retrain_epochs": 1}, UsageError, "--data: expected the images of task 'given', got none; without"),
        (str, {"epochs": 1}, UsageError, "--data: expected the images of task 'given', got none"),
        (str, {"score": "taylor"}, UsageError, "--score taylor: it takes the images of task 'given'; give"),
    ],
    ids=["missing", "corrupt", "other network", "unknown network", "none", "retrain", "train", "taylor"],
)
def test_what_no_pack_can_begin_with(
    tmp_path: Path,
    given: Path,
    weights: Callable[[Path], str],
    changes: dict[str, Any],
    error: type[PackNetError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        add(tmp_path / "p.pack", "given", None, **(TAKEN | {"weights": weights(given)} | changes))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] in ([given.name], [])


def test_what_a_pack_cannot_take(tmp_path: Path, coloured: Coloured) -> None:
    path, data = tmp_path / "p.pack", coloured()
    add(path, "one", data, epochs=1)
    before = contents(path)
    for message, changes in (
        ("task 'one' is in it already; choose another name", {"task": "one"}),
        ("--arch resnet18: expected quickstart, as in .*; leave the option out", {"arch": "resnet18"}),
        ("--image-size 32: expected 16, as in ", {"image_size": 32}),
        ("--weights w.pth: expected none, as in .*; leave the option out", {"weights": "w.pth"}),
        ("--epochs 0: only a new pack's first task", {"epochs": 0}),
        ("--data: expected the images of task 'two', got none", {"data": None}),
        ("task name 'a/b': expected 1 to 64 letters", {"task": "a/b"}),
    ):
        with pytest.raises(UsageError, match=message):
            add(path, **({"task": "two", "data": data} | changes))
    with pytest.raises(EnvironmentFault, match=r"nowhere: expected .*; it does not exist"):
        add(path, "two", tmp_path / "nowhere")
    assert contents(path) == before


def test_a_full_network_is_refused_before_images_are_read_with_what_can_be_done(
    tmp_path: Path, coloured: Coloured
) -> None:
    path, data, watcher = tmp_path / "p.pack", coloured(), Silent()
    full = add(path, "one", data, prune_rate=0)
    assert owned(full.pack) == [1, 0]
    with pytest.raises(UsageError, match="expected free weights for another task, got none") as no:
        add(path, "two", tmp_path / "nowhere", watcher)
    assert "\n" not in str(no.value)
    assert "train them again into a new pack where they give more back" in str(no.value)
    assert "--tasks-to-come 1" in str(no.value)
    assert watcher.phases == []
    assert add(path, "two", data, layers="classifier").task == "two", "as the message says"


def test_a_loss_that_is_no_number_writes_nothing(tmp_path: Path, coloured: Coloured) -> None:
    data = coloured()
    with pytest.raises(CheckFailed, match=r"one: train: the loss is (nan|inf) at step \d of epoch \d, learning rate"):
        add(tmp_path / "p.pack", "one", data, lr=1e30)
    assert [entry.name for entry in tmp_path.iterdir()] == [data.name]
    add(tmp_path / "p.pack", "one", data, epochs=1)
    before = contents(tmp_path / "p.pack")
    with pytest.raises(CheckFailed):
        add(tmp_path / "p.pack", "two", data, lr=1e30)
    assert contents(tmp_path / "p.pack") == before
    assert [row[0] for row in TrainFolder.beside(tmp_path / "p.pack").log().rows()] == ["one", "one"]


def test_a_moved_older_task_stops_everything(
    tmp_path: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "p.pack", coloured()
    add(path, "one", data, epochs=1)
    before = contents(path)
    original = PackedNetwork.freeze

    def freeze_and_drift(self: Any, value_dtype: str = "float32") -> None:
        original(self, value_dtype)
        self._guard.remove()
        self._guard._layers.clear()
        with torch.no_grad():
            next(self.module.parameters()).mul_(1.01)

    monkeypatch.setattr(PackedNetwork, "freeze", freeze_and_drift)
    with pytest.raises(CheckFailed, match="task 'one': expected its logits unchanged, they moved by"):
        add(path, "two", data, epochs=1)
    assert contents(path) == before


def test_a_pack_of_a_network_made_elsewhere_needs_python(tmp_path: Path, coloured: Coloured, golden_copy: Path) -> None:
    pack = Pack.open(golden_copy)
    if pack.backbone.arch in backbones.archs():
        pytest.skip("the golden pack's network is one that can be built")
    with pytest.raises(UsageError, match=r"not one that packnet train can build; add tasks from Python"):
        add(golden_copy, "more", coloured())


def test_a_gpu_that_is_not_there(tmp_path: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentFault, match="--device cuda: PyTorch finds no CUDA GPU here; use --device cpu"):
        add(tmp_path / "p.pack", "t", coloured(), device="cuda")
    assert str(session.pick_device("auto")) == "cpu"
