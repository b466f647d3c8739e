"""The loop: the best epoch on the validation images is kept, the schedule is the paper's, bad losses stop it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from packnet_deploy.errors import CheckFailed
from packnet_deploy.pack import Backbone, InputSpec, Pack, create_pack
from packnet_deploy.training import fit as module
from packnet_deploy.training.backbones import input_spec, quickstart_network
from packnet_deploy.training.fit import Schedule, accuracy, fit
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import _schedule
from packnet_deploy.training.trace import trace_skeleton

SPEC = InputSpec((3, 8, 8), (0.5,) * 3, (0.25,) * 3, resize=8)
Pairs = list[tuple[Tensor, Tensor]]


class Loader:
    """The same batches every epoch; remembers which epochs were asked for."""

    def __init__(self, batches: Pairs) -> None:
        self.batches, self.epochs = batches, list[int]()

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


class Recorder:
    """A watcher that keeps what it hears."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.steps = 0
        self.accuracies: list[float] = []

    def phase(self, name: str, epochs: int, batches: int) -> None:
        self.phases.append((name, epochs, batches))

    def batch(self, images: int, loss: float) -> None:
        self.steps += 1

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        self.accuracies.append(accuracy)


def network() -> PackedNetwork:
    torch.manual_seed(1)
    net = PackedNetwork(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), "4", SPEC
    )
    net.begin("task", ["a", "b"])
    return net


def batches(count: int = 3) -> Pairs:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, *SPEC.shape, generator=generator), torch.randint(0, 2, (6,), generator=generator))
        for _ in range(count)
    ]


def test_the_best_epoch_is_kept_and_the_later_of_two_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    net, loader, heard = network(), Loader(batches()), Recorder()
    scores, snapshots = iter([0.5, 0.9, 0.9, 0.2]), list[Tensor]()

    def scripted(part: nn.Module, val: object) -> float:
        snapshots.append(part.get_parameter("0.weight").detach().clone())
        return next(scores)

    monkeypatch.setattr(module, "accuracy", scripted)
    fit(net, Schedule(4, lr=0.1), loader, [], heard, phase="train", first_epoch=10)
    assert torch.equal(net.module.get_parameter("0.weight"), snapshots[2])
    assert not torch.equal(snapshots[2], snapshots[3])
    assert loader.epochs == [10, 11, 12, 13]
    assert heard.phases == [("train", 4, 3)]
    assert heard.steps == 12
    assert heard.accuracies == [0.5, 0.9, 0.9, 0.2]


def test_no_epochs_change_nothing() -> None:
    net, loader = network(), Loader(batches())
    before = net.module.get_parameter("0.weight").detach().clone()
    fit(net, Schedule(0, lr=0.1), loader, [], Recorder(), phase="train")
    assert torch.equal(net.module.get_parameter("0.weight"), before)
    assert loader.epochs == []


def test_a_loss_that_is_not_finite_names_step_and_learning_rate() -> None:
    data = batches()
    data[1][0].fill_(float("nan"))
    with pytest.raises(CheckFailed, match=r"loss is nan at step 2 of epoch 1, learning rate 0\.05"):
        fit(network(), Schedule(2, lr=0.05), Loader(data), [], Recorder(), phase="train")


def test_the_schedule_is_the_papers() -> None:
    options = TrainOptions(epochs=20, retrain_epochs=10, lr=1e-3)
    train, first, added = (
        _schedule(options, task, phase) for task, phase in ((2, "train"), (1, "retrain"), (2, "retrain"))
    )
    assert [train.lr_at(e) for e in (0, 9, 10, 19)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert [first.lr_at(e) for e in (0, 4, 5, 9)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert [added.lr_at(e) for e in (0, 9)] == pytest.approx([1e-4, 1e-4])
    assert (train.epochs, first.epochs, added.epochs) == (20, 10, 10)


def test_accuracy_counts_in_eval_mode_and_puts_the_mode_back() -> None:
    part = nn.Sequential(nn.Dropout(0.9), nn.Flatten())
    images = torch.eye(4).reshape(4, 4)
    assert accuracy(part.train(), [(images, torch.tensor([0, 1, 2, 0]))]) == 0.75
    assert part.training


NEW_PROCESS = """
import sys, torch
from packnet_deploy.pack import Pack, append_task
from packnet_deploy.training.backbones import quickstart_network
from packnet_deploy.training.network import PackedNetwork
pack = Pack.open(sys.argv[1])
network = PackedNetwork.resume(pack, quickstart_network(7))
network.begin("second", ["a", "b", "c"])
optimizer = network.guarded(torch.optim.AdamW(network.trainable_parameters(), lr=0.01, weight_decay=0.1))
for _ in range(3):
    network.module.train()
    loss = network.module(torch.randn(4, *pack.input.shape)).square().sum()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
network.prune(0.5)
network.freeze()
append_task(pack, network.new_task())
"""


def test_a_new_process_adds_a_task_and_changes_none(tmp_path: Path) -> None:
    spec = input_spec("quickstart", 16)
    net = PackedNetwork(quickstart_network(2), "head", spec)
    net.begin("first", ["a", "b"])
    net.prune(0.5)
    net.freeze()
    graph = trace_skeleton(net.module, "head", spec).SerializeToString(deterministic=True)
    pack = create_pack(tmp_path / "p.pack", Backbone("quickstart", "head"), spec, graph, net.packable, net.new_task())
    delta = pack.file(pack.tasks[0]).read_bytes()
    before = pack.load_task("first").tensors
    command = [sys.executable, "-c", NEW_PROCESS, str(pack.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown = Pack.open(pack.path)
    assert [task.name for task in grown.tasks] == ["first", "second"]
    assert grown.file(grown.tasks[0]).read_bytes() == delta
    after = grown.load_task("first").tensors
    assert all(after[name].tobytes() == values.tobytes() for name, values in before.items())
    assert grown.header("second").frozen_sha256 == grown.bank().sha256(1)
