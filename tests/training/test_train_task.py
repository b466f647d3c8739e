"""One task from a folder of images into a pack: what it does, what it refuses, and that it leaves nothing half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, PackNetError, UsageError
from packnet_deploy.pack import Pack, bank_sha256
from packnet_deploy.training import backbones, run
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import TaskResult, train_task

Coloured = Callable[..., Path]
QUICK: dict[str, Any] = {"epochs": 2, "retrain_epochs": 1, "batch_size": 5, "lr": 0.05, "device": "cpu"}


class Silent:
    """A watcher that only remembers the phases."""

    def __init__(self) -> None:
        self.phases = list[tuple[str, int, int]]()

    def phase(self, name: str, epochs: int, batches: int) -> None:
        self.phases.append((name, epochs, batches))

    def batch(self, images: int, loss: float) -> None: ...

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None: ...


def add(path: Path, task: str, data: Path | None, watcher: Silent | None = None, **changes: Any) -> TaskResult:
    new: dict[str, Any] = {} if path.exists() else {"arch": "quickstart", "weights": "none", "image_size": 16}
    where = None if data is None else str(data)
    return train_task(TrainOptions(task=task, data=where, **(QUICK | new | changes)), path, watcher or Silent())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tasks_one_after_the_other(tmp_path: Path, coloured: Coloured) -> None:
    path, watcher = tmp_path / "p.pack", Silent()
    first = add(path, "one", coloured("a"), watcher)
    before = contents(path)
    assert watcher.phases == [("one: train", 2, 4), ("one: retrain", 1, 4)]
    assert (first.task, first.change) == ("one", {})
    assert first.free == pytest.approx(0.75 * first.weights, rel=1e-3)
    assert first.delta_bytes == (path / "deltas/0001-one.safetensors").stat().st_size

    second = add(path, "two", coloured("b", classes=3, train=7, val=3, test=3))
    after = contents(path)
    assert second.change == {"one": 0.0}
    assert all(after[name] == before[name] for name in before if name != "pack.json")
    assert set(after) - set(before) == {"deltas/0002-two.safetensors"}
    assert [(task.name, task.classes) for task in second.pack.tasks] == [("one", 2), ("two", 3)]
    assert 0.56 * second.weights < second.free < 0.57 * second.weights
    for result in (first, second):
        for value in (result.before_pruning, result.after_pruning, result.after_retraining, result.test):
            assert 0 <= value <= 1
        report = second.pack.header(result.task).report
        assert report["accuracy_test"] == round(result.test, 6)
        assert (report["epochs"], report["prune_rate"], report["seed"]) == (2, 0.75, 0)
    bank = second.pack.bank()
    frozen = bank_sha256(second.pack.packable, bank.values, bank.owners, bank.shared, 1)
    assert second.pack.header("two").frozen_sha256 == frozen


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path, coloured: Coloured) -> None:
    data = coloured()
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        add(tmp_path / f"{name}.pack", "one", data, seed=seed)
        torch.rand(7)  # whatever else draws random numbers in between
        add(tmp_path / f"{name}.pack", "two", data, seed=seed)
    a, b, c = (contents(tmp_path / f"{name}.pack") for name in "abc")
    assert a == b
    assert [name for name in a if a[name] == c[name]] == ["graph.onnx"]


def test_test_images_are_looked_at_once_after_everything_is_decided(
    tmp_path: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Recorded(run.EvalLoader):
        def __init__(self, split: Any, *arguments: Any) -> None:
            super().__init__(split, *arguments)
            self.part = {4: "val", 3: "test"}[len(split)]  # images of the two parts below

        def __iter__(self) -> Iterator[Any]:
            events.append(self.part)
            return super().__iter__()

    def noted(name: str, call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            events.append(name)
            return call(*arguments, **options)

        return wrapped

    monkeypatch.setattr(run, "EvalLoader", Recorded)
    for step in ("begin", "prune", "freeze"):
        monkeypatch.setattr(run.PackedNetwork, step, noted(step, getattr(run.PackedNetwork, step)))
    data = coloured("d", classes=1, train=6, val=4, test=3)
    for part in ("train", "val", "test"):  # a second class, without adding to the counts of val and test
        source = data / part / "red"
        (data / part / "green").mkdir()
        for image in sorted(source.iterdir())[: 3 if part == "train" else 1]:
            image.rename(data / part / "green" / image.name)
    result = add(tmp_path / "p.pack", "t", data)
    assert events == ["begin", "val", "val", "val", "prune", "val", "val", "freeze", "val", "test"]
    assert 0 <= result.test <= 1


# -- a network taken as it is --------------------------------------------------------------------------------------


@pytest.fixture
def squeezenet(tmp_path: Path) -> Path:
    """A state dict of random weights, 3 classes."""
    torch.manual_seed(0)
    torch.save(backbones.build("squeezenet1_1", 3)[0].state_dict(), tmp_path / "squeeze.pth")
    return tmp_path / "squeeze.pth"


TAKEN: dict[str, Any] = {"arch": "squeezenet1_1", "image_size": 64, "epochs": 0, "retrain_epochs": 0}


def test_a_trained_network_becomes_task_1_without_images(tmp_path: Path, coloured: Coloured, squeezenet: Path) -> None:
    path = tmp_path / "p.pack"
    result = add(path, "given", None, weights=str(squeezenet), prune_rate=0.5, **TAKEN)
    assert str(result.before_pruning) == str(result.test) == "nan"
    assert not [key for key in result.pack.header("given").report if key.startswith("accuracy")]
    state, task = torch.load(squeezenet), result.pack.load_task("given")
    assert result.pack.header("given").classes == ("class 0", "class 1", "class 2")
    for name, value in task.tensors.items():
        given = state[name.replace("head.", "classifier.1.")].numpy()
        kept = value != 0
        assert (value[kept] == given[kept]).all(), name
        if name in {p.name for p in result.pack.packable}:
            assert kept.sum() == value.size - round(value.size / 2)
        else:
            assert (value == given).all(), f"{name} is not pruned"
    second = add(path, "colours", coloured(), epochs=1, retrain_epochs=0)
    assert second.change == {"given": 0.0}


def test_a_kept_head_may_be_retrained_on_its_own_classes_only(
    tmp_path: Path, coloured: Coloured, squeezenet: Path
) -> None:
    options = TAKEN | {"weights": str(squeezenet), "retrain_epochs": 1}
    path = tmp_path / "p.pack"
    with pytest.raises(UsageError, match="task 'two': the network's own head has 3 classes, the data 2"):
        add(path, "two", coloured("two"), **options)
    assert not path.exists()
    result = add(path, "three", coloured("three", classes=3, train=4, test=2), **options)
    assert result.pack.header("three").classes == ("blue", "green", "red")


# -- refusals ------------------------------------------------------------------------------------------------------


def _headless(path: Path) -> str:
    state = {name: value for name, value in torch.load(path).items() if not name.startswith("classifier.")}
    torch.save(state, path)
    return str(path)


def _corrupt(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:999])
    return str(path)


@pytest.mark.parametrize(
    ("weights", "changes", "error", "message"),
    [
        (lambda p: f"{p}.none", {}, EnvironmentFault, r"--weights .*\.none: no such file"),
        (_corrupt, {}, ArtefactError, r"squeeze\.pth: not a state-dict file"),
        (_headless, {}, UsageError, r"--epochs 0: it keeps the given network, but .* holds no classifier\.1\.weight"),
        (str, {"arch": "resnet18"}, ArtefactError, r"squeeze\.pth: not resnet18's weights"),
        (str, {"arch": "squeezenet"}, UsageError, "did you mean one of: squeezenet"),
        (lambda _: "none", {}, UsageError, "--epochs 0: it keeps the given network, so give its --weights"),
        (str, {"retrain_epochs": 1}, UsageError, "--data: expected the images of task 'given', got none; without"),
        (str, {"epochs": 1}, UsageError, "--data: expected the images of task 'given', got none"),
    ],
    ids=["missing", "corrupt", "without head", "other network", "unknown network", "none", "retrain", "train"],
)
def test_what_no_pack_can_begin_with(
    tmp_path: Path,
    squeezenet: Path,
    weights: Callable[[Path], str],
    changes: dict[str, Any],
    error: type[PackNetError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        add(tmp_path / "p.pack", "given", None, **(TAKEN | {"weights": weights(squeezenet)} | changes))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] in ([squeezenet.name], [])


def test_what_a_pack_cannot_take(tmp_path: Path, coloured: Coloured) -> None:
    path, data = tmp_path / "p.pack", coloured()
    add(path, "one", data, epochs=1)
    before = contents(path)
    for message, changes in (
        ("task 'one' is in it already; choose another name", {"task": "one"}),
        ("--arch resnet18: .* exists and the pack's is quickstart; leave the option out", {"arch": "resnet18"}),
        ("--image-size 32: .* the pack's is 16", {"image_size": 32}),
        ("--weights w.pth: .* the pack has its own", {"weights": "w.pth"}),
        ("--epochs 0: only a new pack's first task", {"epochs": 0}),
        ("--data: expected the images of task 'two', got none", {"data": None}),
        ("task name 'a/b': expected 1 to 64 letters", {"task": "a/b"}),
    ):
        with pytest.raises(UsageError, match=message):
            add(path, **({"task": "two", "data": data} | changes))
    with pytest.raises(EnvironmentFault, match="expected a folder of images"):
        add(path, "two", tmp_path / "nowhere")
    assert contents(path) == before


def test_a_full_network_is_refused_before_training_with_the_capacity_table(tmp_path: Path, coloured: Coloured) -> None:
    path, data, watcher = tmp_path / "p.pack", coloured(), Silent()
    full = add(path, "one", data, prune_rate=0)
    assert full.free == 0
    with pytest.raises(UsageError, match="no free weights are left for another task; prune earlier tasks harder") as no:
        add(path, "two", data, watcher)
    _, *table = str(no.value).splitlines()
    assert [line.split()[0] for line in table] == [param.name for param in full.pack.packable]
    assert table[0].split()[1:] == ["432", "weights", "0", "free", "owned:", "432"]
    assert watcher.phases == []


def test_a_loss_that_is_no_number_writes_nothing(tmp_path: Path, coloured: Coloured) -> None:
    data = coloured()
    with pytest.raises(CheckFailed, match=r"one: train: the loss is (nan|inf) at step \d of epoch \d, learning rate"):
        add(tmp_path / "p.pack", "one", data, lr=1e30)
    assert [entry.name for entry in tmp_path.iterdir()] == [data.name]
    add(tmp_path / "p.pack", "one", data, epochs=1)
    before = contents(tmp_path)
    with pytest.raises(CheckFailed):
        add(tmp_path / "p.pack", "two", data, lr=1e30)
    assert contents(tmp_path) == before


def test_a_moved_older_task_stops_everything(
    tmp_path: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "p.pack", coloured()
    add(path, "one", data, epochs=1)
    before = contents(path)
    original = run.PackedNetwork.freeze

    def freeze_and_drift(self: Any, value_dtype: str = "float32") -> None:
        original(self, value_dtype)
        self._guard.remove()
        self._guard._layers.clear()
        with torch.no_grad():
            next(self.module.parameters()).mul_(1.01)

    monkeypatch.setattr(run.PackedNetwork, "freeze", freeze_and_drift)
    with pytest.raises(CheckFailed, match="task 'one': expected its logits unchanged, they moved by"):
        add(path, "two", data, epochs=1)
    assert contents(path) == before


def test_learning_rates_fall_half_way_and_added_tasks_retrain_gently(
    tmp_path: Path, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[str, list[float]]] = []
    original = run.fit

    def fit(network: Any, schedule: Any, *arguments: Any, phase: str, **options: Any) -> None:
        rates.append((phase, [round(schedule.lr_at(epoch), 9) for epoch in range(schedule.epochs)]))
        original(network, schedule, *arguments, phase=phase, **options)

    monkeypatch.setattr(run, "fit", fit)
    path, data = tmp_path / "p.pack", coloured("d", train=4, test=1)
    add(path, "one", data, epochs=1, retrain_epochs=2, lr=0.02)
    add(path, "two", data, epochs=4, retrain_epochs=2, lr=0.02)
    assert rates == [
        ("one: train", [0.02]),
        ("one: retrain", [0.02, 0.002]),
        ("two: train", [0.02, 0.02, 0.002, 0.002]),
        ("two: retrain", [0.002, 0.002]),
    ]


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
    assert str(run.pick_device("auto")) == "cpu"
