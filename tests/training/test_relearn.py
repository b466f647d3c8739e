"""Relearning: a pruned network taught by itself, on images whose labels do not matter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import NEW, QUICK, Silent, StopsAt, contents, make_training_small, small_classifier
from torch import nn
from torchvision.ops import StochasticDepth

from packnet_deploy.errors import Interrupted, UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training.methods.relearn import relearning
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.run import train_tasks
from packnet_deploy.training.start import with_network_first

Coloured = Callable[..., Path]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_small(monkeypatch.setattr)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(5)
    torch.save(small_classifier(4).state_dict(), tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def taken(weights: str, **changes: Any) -> TrainOptions:
    as_it_is: dict[str, Any] = {"task": "pretrained", "weights": weights, "epochs": 0, "prune_rate": 0.5}
    return TrainOptions(**(NEW | QUICK | as_it_is | changes))


def test_the_objective_is_the_distance_from_the_features_before() -> None:
    torch.manual_seed(0)
    module, images, labels = small_classifier(3).eval(), torch.randn(6, 3, 16, 16), torch.zeros(6, dtype=torch.int64)
    before = copy.deepcopy(module)
    objective = relearning(module, "head")
    assert objective(module, images, labels) == 0
    with torch.no_grad():
        module.get_parameter("fc.weight").mul_(0.5)
    features, expected = ((m.fc(m.flatten(m.features(images)))) for m in (module, before))
    share = ((features - expected) ** 2).sum() / (expected**2).sum()
    loss = objective(module, images, labels)
    assert loss.item() == pytest.approx(share.item(), rel=1e-5)
    loss.backward()
    gradients = {name: p.grad is not None for name, p in module.named_parameters()}
    assert gradients == {name: not name.startswith("head") for name in gradients}


@pytest.mark.parametrize("noise", [nn.Dropout(0.5), nn.Dropout2d(0.5), StochasticDepth(0.5, "row")])
def test_what_is_random_in_training_is_left_out(noise: nn.Module) -> None:
    """Its noise would count as distance: a network that has forgotten nothing is at 0, in training mode too."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), noise, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    objective = relearning(module, "4")
    module.train()
    assert objective(module, torch.randn(6, 3, 8, 8), torch.zeros(6, dtype=torch.int64)) == 0


def test_relearning_brings_back_what_pruning_took(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    reference, losses = str(coloured("a", train=40, test=4)), {}
    for epochs in (1, 25):
        watcher = Silent()
        how = {"retrain_epochs": epochs, "optimizer": "adamw", "lr": 0.01, "batch_size": 36}
        options = taken(weights, reference=reference, **how)
        (result,) = train_tasks([options], tmp_path / f"{epochs}.pack", watcher)
        losses[epochs] = watcher.losses[-1]
        assert [phase[0] for phase in watcher.phases] == ["pretrained: relearn"]
        assert all(check.passes for check in verify_pack(result.pack))
        assert sum(layer.owned[0] for layer in result.pack.capacity()) * 2 == result.pack.manifest.weights
    assert losses[25] < losses[1] / 2


def test_labels_are_not_looked_at(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    packs = []
    for name, classes in (("a", {"red": "red", "green": "green"}), ("b", {"red": "x", "green": "w"})):
        folder = coloured(name)
        for split in ("train", "test"):
            for old, new in classes.items():
                (folder / split / old).rename(folder / split / new)
        train_tasks_to = tmp_path / f"{name}.pack"
        list(train_tasks([taken(weights, reference=str(folder), batch_size=100)], train_tasks_to, Silent()))
        packs.append(Pack.open(train_tasks_to))
    first, second = (pack.load_task("pretrained").tensors for pack in packs)
    assert first.keys() == second.keys()
    assert all(torch.allclose(torch.tensor(first[n]), torch.tensor(second[n]), atol=1e-5) for n in first)


def test_the_same_again_where_it_was_interrupted(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    options = taken(weights, reference=str(coloured("a")), retrain_epochs=3)
    list(train_tasks([options], tmp_path / "whole.pack", Silent()))
    with pytest.raises(Interrupted):
        list(train_tasks([options], tmp_path / "p.pack", StopsAt(5)))
    list(train_tasks([options], tmp_path / "p.pack", Silent(), resume=True))
    assert contents(tmp_path / "p.pack") == contents(tmp_path / "whole.pack")


def test_a_new_pack_relearns_where_it_is_told_from_what(tmp_path: Path) -> None:
    """Whoever needs the network's own task asks for it; the tasks added to it do without."""
    how: dict[str, Any] = {"weights": "w.pth", "pattern": "2:4", "layers": "fc", "amp": "bf16"}
    first = TrainOptions(task="birds", data="birds", reference="y", **how)
    network, birds = with_network_first([first], tmp_path / "p.pack")
    assert (network.task, network.data, network.reference, network.epochs) == ("pretrained", None, "y", 0)
    assert (network.prune_rate, network.layers, network.amp, network.pattern) == (0.3, "all", "bf16", "2:4")
    assert network.retrain_epochs > 0
    assert (birds.task, birds.data, birds.reference, birds.weights) == ("birds", "birds", None, None)
    for reference in (None, "none"):
        network, _ = with_network_first([TrainOptions(task="x", data="x", reference=reference)], tmp_path / "p.pack")
        assert (network.prune_rate, network.retrain_epochs) == (0.3, 0)


@pytest.mark.parametrize("method", ["classifier-only", "head-and-norm"])
def test_what_packs_nothing_sits_on_the_whole_network(
    method: str, tmp_path: Path, coloured: Coloured, weights: str
) -> None:
    how: dict[str, Any] = NEW | QUICK | {"weights": weights, "method": method, "data": str(coloured("a"))}
    tasks = with_network_first([TrainOptions(task="birds", **how)], tmp_path / "p.pack")
    network, birds = list(train_tasks(tasks, tmp_path / "p.pack", Silent()))
    assert [entry.name for entry in birds.pack.tasks] == ["pretrained", "birds"]
    assert sum(layer.owned[0] for layer in network.pack.capacity()) == network.pack.manifest.weights


def test_images_to_relearn_from_are_refused_where_nothing_relearns(
    tmp_path: Path, coloured: Coloured, weights: str
) -> None:
    data = str(coloured("a"))
    for wrong in ({"epochs": 1, "data": data}, {"data": data}, {"method": "filter-pruning"}):
        with pytest.raises(UsageError, match="--reference"):
            list(train_tasks([taken(weights, reference=data, **wrong)], tmp_path / "p.pack", Silent()))
    with pytest.raises(UsageError, match="--reference for --retrain-epochs"):
        list(train_tasks([taken(weights, retrain_epochs=2)], tmp_path / "p.pack", Silent()))
    assert not (tmp_path / "p.pack").exists()
