"""Free weights that start from the pretrained network's values: kept beside the pack, read again, shipped nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import NEW, QUICK, Silent, StopsAt, contents, make_training_small, small_classifier, train

from packnet_deploy.errors import ArtefactError, Interrupted
from packnet_deploy.pack import Pack
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.start import with_network_first
from packnet_deploy.training.start_values import init_path, named_init, read_init

Coloured = Callable[..., Path]
STILL = {"lr": 1e-30, "prune_rate": 0.0, "retrain_epochs": 0}  # training that moves nothing by more than that


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_small(monkeypatch.setattr)


@pytest.fixture
def given() -> dict[str, torch.Tensor]:
    """A pretrained network's tensors."""
    torch.manual_seed(5)
    module = small_classifier(4)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()  # type: ignore[operator]
    return module.state_dict()


@pytest.fixture
def weights(tmp_path: Path, given: dict[str, torch.Tensor]) -> str:
    torch.save(given, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def grow(path: Path, task: str, data: Path, watcher: Silent | None = None, **changes: Any) -> Pack:
    """Add a task to the pack at ``path``, which begins with the network itself if it is new."""
    new = {} if path.exists() else NEW
    options = TrainOptions(task=task, data=str(data), **(new | QUICK | changes))
    train(with_network_first([options], path), path, watcher=watcher)
    return Pack.open(path)


def test_an_added_task_starts_from_what_pruning_took(
    tmp_path: Path, coloured: Coloured, weights: str, given: dict[str, torch.Tensor]
) -> None:
    """With nothing learned and nothing pruned, the first added task's weights are the pretrained network's."""
    pack = grow(tmp_path / "p.pack", "a", coloured("a"), weights=weights, **STILL)
    tensors = pack.load_task("a").tensors
    for param in pack.packable:
        assert np.array_equal(tensors[param.name], given[param.name].numpy()), param.name
    less = pack.load_task("pretrained").tensors
    assert all(0.25 < (less[param.name] == 0).mean() < 0.35 for param in pack.packable)


def test_a_later_task_finds_them_where_they_are_still_free(
    tmp_path: Path, coloured: Coloured, weights: str, given: dict[str, torch.Tensor]
) -> None:
    """In a process of its own, so to speak: nothing but the files is left of the one before."""
    path = tmp_path / "p.pack"
    grow(path, "a", coloured("a"), weights=weights, lr=0.1)
    pack = grow(path, "b", coloured("b", classes=3), **STILL)
    bank = pack.bank()
    for param in pack.packable:
        own = bank.owners[param.name] == 3
        assert own.any(), param.name
        assert np.array_equal(bank.values[param.name][own], given[param.name].numpy()[own]), param.name
    assert all(check.passes for check in verify_pack(pack))


def test_its_own_normalisation_begins_as_the_pretrained_networks(
    tmp_path: Path, coloured: Coloured, weights: str, given: dict[str, torch.Tensor]
) -> None:
    """Also where relearning has moved the shared one."""
    data = coloured("a")
    pack = grow(tmp_path / "p.pack", "a", data, reference=str(data), weights=weights, **STILL)
    base, own = (pack.load_task(name).tensors for name in ("pretrained", "a"))
    assert not np.array_equal(base["features.1.weight"], given["features.1.weight"].numpy())
    assert np.array_equal(own["features.1.weight"], given["features.1.weight"].numpy())
    assert np.abs(own["features.1.bias"] - given["features.1.bias"].numpy()).max() < 1e-20


def test_the_values_are_training_material_only(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    """Free weights are 0 for every task, and the pack runs without the file."""
    pack = grow(tmp_path / "p.pack", "a", coloured("a"), weights=weights)
    file = init_path(pack.path)
    assert file.name == "p.pretrained.safetensors"
    bank = pack.bank()
    assert all((bank.values[name][owners == 0] == 0).all() for name, owners in bank.owners.items())
    file.unlink()
    assert all(check.passes for check in verify_pack(Pack.open(pack.path)))


def test_without_the_file_tasks_start_from_zero_and_it_is_said(
    tmp_path: Path, coloured: Coloured, weights: str
) -> None:
    path, watcher = tmp_path / "p.pack", Silent()
    grow(path, "a", coloured("a"), weights=weights)
    init_path(path).unlink()
    pack = grow(path, "b", coloured("b", classes=3), watcher, **STILL)
    bank = pack.bank()
    assert all(np.abs(bank.values[name][owners == 3]).max() < 1e-20 for name, owners in bank.owners.items())
    (note,) = watcher.notes
    assert "p.pretrained.safetensors is not there" in note
    assert note.endswith("free weights start from 0")


def test_another_packs_file_is_refused(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    path = tmp_path / "p.pack"
    pack = grow(path, "a", coloured("a"), weights=weights)
    data = coloured("b", classes=3)
    content = bytearray(init_path(path).read_bytes())
    content[-1] ^= 1
    init_path(path).write_bytes(content)
    before = contents(path)
    with pytest.raises(ArtefactError, match=rf"expected sha256 {named_init(pack)}, got .*--init zero"):
        grow(path, "b", data)
    assert contents(path) == before
    grow(path, "b", data, init="zero")


def test_zero_is_the_papers(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    path, watcher = tmp_path / "p.pack", Silent()
    pack = grow(path, "a", coloured("a"), watcher, weights=weights, init="zero", separate=("none",), **STILL)
    bank = pack.bank()
    assert all(np.abs(bank.values[name][owners == 2]).max() < 1e-20 for name, owners in bank.owners.items())
    assert watcher.notes == []


@pytest.mark.parametrize("start", ["network", "task"])
def test_the_file_comes_with_every_start_from_pretrained_weights(
    tmp_path: Path, coloured: Coloured, weights: str, given: dict[str, torch.Tensor], start: str
) -> None:
    pack = grow(tmp_path / "p.pack", "a", coloured("a"), weights=weights, start=start, lr=0.1)
    init = read_init(pack)
    assert init is not None
    assert all(torch.equal(values, given[name]) for name, values in init.items())
    assert {param.name for param in pack.packable} < init.keys()


def test_no_file_where_nothing_is_free_or_nothing_was_pretrained(
    tmp_path: Path, coloured: Coloured, weights: str
) -> None:
    data = coloured("a")
    for name, changes in {"scratch": {"start": "task"}, "full": {"weights": weights, "method": "individual"}}.items():
        options = TrainOptions(task="a", data=str(data), **(NEW | QUICK | changes))
        train(with_network_first([options], tmp_path / f"{name}.pack"), tmp_path / f"{name}.pack")
    assert not list(tmp_path.glob("*.pretrained.safetensors"))


def test_stopped_and_resumed_it_comes_to_the_same_bytes(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    """The first task of a pack, whose pretrained values its training has long changed, and an added one."""
    whole, path = tmp_path / "whole.pack", tmp_path / "p.pack"
    new = NEW | QUICK | {"weights": weights, "start": "task"}
    first = TrainOptions(task="a", data=str(coloured("a")), **new)
    second = TrainOptions(task="b", data=str(coloured("b", classes=3)), **QUICK)
    for options in (first, second):
        train([options], whole)
        with pytest.raises(Interrupted):
            train([options], path, watcher=StopsAt(5))
        train([options], path, resume=True)
    assert contents(path) == contents(whole)
    assert init_path(path).read_bytes() == init_path(whole).read_bytes()


def test_nothing_but_what_is_claimed_starts_from_given_values(tmp_path: Path, coloured: Coloured, weights: str) -> None:
    """From Python: what a task claims starts from given values, and nothing else moves."""
    pack = grow(tmp_path / "p.pack", "a", coloured("a"), weights=weights)
    network = PackedNetwork.resume(pack, small_classifier(2))
    before = {param.name: network.module.get_parameter(param.name).detach().clone() for param in network.packable}
    init = read_init(pack)
    assert init is not None
    claim = {name: torch.rand_like(values) < 0.5 for name, values in before.items()}
    network.begin("b", ["x", "y"], claim=claim, init=init)
    for name, values in before.items():
        claimed = network.state.owners[name] == 3
        expected = torch.where(claimed, init[name], values)
        assert torch.equal(network.module.get_parameter(name), expected)
        assert claimed.any()
        assert not (claimed & (values != 0)).any()
