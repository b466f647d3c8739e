"""What the loop keeps at the end of its epochs, and the learning rate that the optimiser really gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from small_networks import SPEC, bits, frozen_bits, packed, small_network
from torch import Tensor

from packnet_deploy.errors import CheckFailed
from packnet_deploy.training import fit as loop
from packnet_deploy.training.fit import fit
from packnet_deploy.training.inference import Errors
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.stages import Fit, Schedule


class Noise:
    """Batches of noise with labels, other ones each epoch."""

    def __init__(self, batches: int = 2) -> None:
        self.batches, self.epoch = batches, 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(self.batches):
            yield torch.randn(6, *SPEC.shape, generator=generator), torch.tensor([0, 1, 0, 1, 1, 1])


class Weights:
    """A watcher that writes down the first layer's bits after each epoch."""

    def __init__(self, network: PackedNetwork) -> None:
        self.network, self.after = network, list[list[int]]()

    def note(self, text: str) -> None: ...

    def phase(self, name: str, begin: int, end: int, batches: int) -> None: ...

    def batch(self, images: int, loss: float) -> None: ...

    def epoch(self, epoch: int, loss: float, val: Errors) -> None:
        self.after.append(bits(self.network.module[0].weight).tolist())


def epochs(count: int, lr: float = 0.1, milestones: tuple[int, ...] = (), **schedule: float) -> Fit:
    return Fit("train", Schedule(count, lr, milestones, **schedule), 0, count)


@pytest.fixture
def network() -> PackedNetwork:
    network = small_network()
    network.begin("t", ["a", "b"])
    return network


def scores(monkeypatch: pytest.MonkeyPatch, *top1: float) -> None:
    """Let validation answer these errors, epoch after epoch."""
    answers = iter(top1)
    monkeypatch.setattr(loop, "errors", lambda module, val: Errors(next(answers), 0.0))


@pytest.mark.parametrize(
    ("top1", "best"),
    [((0.8, 0.1, 0.5), 1), ((0.1, 0.5, 0.5), 0), ((0.9, 0.3, 0.3), 2), ((1.0, 1.0, 1.0), 2), ((math.nan,) * 3, 2)],
    ids=["middle", "first", "later of equals", "all wrong", "nothing measured"],
)
def test_the_best_epoch_is_kept(
    network: PackedNetwork, monkeypatch: pytest.MonkeyPatch, top1: tuple[float, ...], best: int
) -> None:
    scores(monkeypatch, *top1)
    weights = Weights(network)
    fit(network, epochs(3), Noise(), [], weights, name="p")
    assert len({tuple(epoch) for epoch in weights.after}) == 3, "each epoch moved them"
    assert bits(network.module[0].weight).tolist() == weights.after[best]


def test_without_validation_images_the_last_epoch_is_kept(network: PackedNetwork) -> None:
    weights = Weights(network)
    fit(network, epochs(3), Noise(), [], weights, name="p")
    assert bits(network.module[0].weight).tolist() == weights.after[-1]


def test_the_running_statistics_of_the_best_epoch_are_kept_too(
    network: PackedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, 0.1, 0.9)
    fit(network, epochs(2), Noise(), [], Weights(network), name="p")
    scores(monkeypatch, 0.1)
    other = small_network()
    other.begin("t", ["a", "b"])
    fit(other, epochs(1), Noise(), [], Weights(other), name="p")
    assert torch.equal(network.module[1].running_mean, other.module[1].running_mean)


def test_no_epochs_change_nothing(network: PackedNetwork) -> None:
    before, weights = bits(network.module[0].weight).tolist(), Weights(network)
    fit(network, epochs(0), Noise(), [], weights, name="p")
    assert bits(network.module[0].weight).tolist() == before
    assert weights.after == []


def test_what_is_put_back_is_frozen_still(monkeypatch: pytest.MonkeyPatch) -> None:
    network = packed(1)
    before = frozen_bits(network, 1)
    network.begin("second", ["a", "b"])
    scores(monkeypatch, 0.1, 0.9, 0.9)
    fit(network, epochs(3, weight_decay=0.1), Noise(), [], Weights(network), name="p")
    assert frozen_bits(network, 1) == before


def test_the_optimiser_gets_the_schedules_learning_rate(
    network: PackedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD, closure: Callable[[], float] | None = None) -> None:
        used.extend(group["lr"] for group in self.param_groups)
        original(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    fit(network, epochs(5, 0.5, milestones=(3, 4)), Noise(1), [], Weights(network), name="p")
    assert used == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.005])


def test_a_part_of_a_phase_goes_on_in_its_schedule(network: PackedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of a retraining that pruning interrupts: later epochs, a lower rate, other images."""
    used, asked = list[float](), list[int]()
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD, closure: Callable[[], float] | None = None) -> None:
        used.extend(group["lr"] for group in self.param_groups)
        original(self, closure)

    class Asked(Noise):
        def set_epoch(self, epoch: int, skip: int = 0) -> None:
            asked.append(epoch)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    part = Fit("retrain", Schedule(4, 0.5, (3,)), 2, 4, shown_before=20)
    fit(network, part, Asked(1), [], Weights(network), name="p")
    assert used == pytest.approx([0.5, 0.05])
    assert asked == [22, 23]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step_and_its_learning_rate(network: PackedNetwork, value: float) -> None:
    class Breaks(Noise):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for number, (images, labels) in enumerate(super().__iter__()):
                yield images * (value if number == 2 and self.epoch == 1 else 1.0), labels

    with pytest.raises(CheckFailed, match=r"t: train: the loss is nan at step 3 of epoch 2, learning rate 0\.025; try"):
        fit(network, epochs(2, 0.25, milestones=(1,)), Breaks(4), [], Weights(network), name="t: train")
