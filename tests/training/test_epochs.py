"""What the loop keeps at the end of its epochs, and the learning rate that the optimiser really gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from small_networks import SPEC, bits, frozen_bits, packed, small_network
from torch import Tensor

from packnet_deploy.errors import CheckFailed
from packnet_deploy.training import fit as loop
from packnet_deploy.training.fit import Schedule, fit
from packnet_deploy.training.network import PackedNetwork


class Noise:
    """Batches of noise with labels, other ones each epoch."""

    def __init__(self, batches: int = 2) -> None:
        self.batches, self.epoch = batches, 0

    def set_epoch(self, epoch: int) -> None:
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

    def phase(self, name: str, epochs: int, batches: int) -> None: ...

    def batch(self, images: int, loss: float) -> None: ...

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        self.after.append(bits(self.network.module[0].weight).tolist())


@pytest.fixture
def network() -> PackedNetwork:
    network = small_network()
    network.begin("t", ["a", "b"])
    return network


def scores(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let validation answer these, epoch after epoch."""
    answers = iter(values)
    monkeypatch.setattr(loop, "accuracy", lambda module, val: next(answers))


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [((0.2, 0.9, 0.5), 1), ((0.9, 0.5, 0.5), 0), ((0.1, 0.7, 0.7), 2), ((0.0, 0.0, 0.0), 2)],
    ids=["middle", "first", "later of equals", "all zero"],
)
def test_the_best_epoch_is_kept(
    network: PackedNetwork, monkeypatch: pytest.MonkeyPatch, accuracies: tuple[float, ...], best: int
) -> None:
    scores(monkeypatch, *accuracies)
    weights = Weights(network)
    fit(network, Schedule(3, 0.1), Noise(), [], weights, phase="p")
    assert len({tuple(epoch) for epoch in weights.after}) == 3, "each epoch moved them"
    assert bits(network.module[0].weight).tolist() == weights.after[best]


def test_without_validation_images_the_last_epoch_is_kept(network: PackedNetwork) -> None:
    weights = Weights(network)
    fit(network, Schedule(3, 0.1), Noise(), [], weights, phase="p")
    assert bits(network.module[0].weight).tolist() == weights.after[-1]


def test_what_is_put_back_is_frozen_still(monkeypatch: pytest.MonkeyPatch) -> None:
    network = packed(1)
    before = frozen_bits(network, 1)
    network.begin("second", ["a", "b"])
    scores(monkeypatch, 0.9, 0.1, 0.1)
    fit(network, Schedule(3, 0.1, weight_decay=0.1), Noise(), [], Weights(network), phase="p")
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
    fit(network, Schedule(4, 0.5, drop_after=3), Noise(1), [], Weights(network), phase="p")
    assert used == pytest.approx([0.5, 0.5, 0.5, 0.05])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step_and_its_learning_rate(network: PackedNetwork, value: float) -> None:
    class Breaks(Noise):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for number, (images, labels) in enumerate(super().__iter__()):
                yield images * (value if number == 2 and self.epoch == 1 else 1.0), labels

    with pytest.raises(CheckFailed, match=r"t: train: the loss is nan at step 3 of epoch 2, learning rate 0\.025; try"):
        fit(network, Schedule(2, 0.25, drop_after=1), Breaks(4), [], Weights(network), phase="t: train")
