"""2:4 on a live network: which layers carry it, tasks in and out of a pack, and packs that only claim it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import SPEC, add_task, frozen_bits, train
from torch import nn

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack import Backbone, Pack, append_task, create_pack, probe_batch
from packnet_deploy.pack.pattern import obeys
from packnet_deploy.training.network import PackedNetwork


class Mixed(nn.Module):
    """One layer of each kind that matters to the pattern."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 8, 3)
        self.plain = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.odd = nn.Conv2d(8, 6, 1)
        self.up = nn.ConvTranspose2d(6, 4, 1)
        self.down = nn.ConvTranspose2d(4, 8, 1)
        self.linear = nn.Linear(8, 12)
        self.head = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.depthwise(self.plain(self.stem(x).relu()).relu()))
        x = self.down(self.up(self.odd(x).relu())).relu()
        return self.head(self.linear(x.mean((2, 3))).relu())


PATTERNED = {"plain.weight", "grouped.weight", "odd.weight", "linear.weight"}


def mixed(pattern: str = "2:4") -> PackedNetwork:
    return PackedNetwork(Mixed(), "head", SPEC, pattern=pattern)


def new_pack(path: Path, network: PackedNetwork) -> Pack:
    return create_pack(path, Backbone("mixed", "head"), SPEC, b"g", network.packable, first=network.new_task())


def test_the_pattern_is_carried_wherever_it_is_possible() -> None:
    assert {param.name for param in mixed().packable if param.pattern == "2:4"} == PATTERNED
    assert not any(param.pattern for param in mixed("").packable)
    capacity = {layer.name: layer for layer in mixed().capacity}
    assert (capacity["plain.weight"].room, capacity["plain.weight"].free) == (288, 288)
    assert (capacity["depthwise.weight"].room, capacity["depthwise.weight"].size) == (72, 72)


def test_patterns_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="pattern: expected '2:4' or none, got '1:2'"):
        mixed("1:2")
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    with pytest.raises(UsageError, match=r"pattern 2:4: no layer has a multiple of 4 input channels"):
        PackedNetwork(module, "3", SPEC, pattern="2:4")


def test_a_weight_tied_to_a_transposed_convolution_does_not_carry_it() -> None:
    module = Mixed()
    module.down = nn.ConvTranspose2d(8, 8, 1)
    module.odd = nn.Conv2d(8, 8, 1)
    module.down.weight = module.odd.weight
    network = PackedNetwork(module, "head", SPEC, pattern="2:4")
    assert {param.name for param in network.packable if param.pattern} == PATTERNED - {"odd.weight"}


def test_every_task_of_a_pack_keeps_the_pattern(tmp_path: Path) -> None:
    network = mixed()
    network.begin("first", ["a", "b"])
    train(network)
    network.prune(0.5)
    train(network)
    network.freeze()
    pack = new_pack(tmp_path / "p.pack", network)
    answers = {"first": network.logits(probe_batch(SPEC))}
    for index, rate in enumerate((0.75, 0.25, 0), start=2):
        before = frozen_bits(network, index - 1)
        rooms = {layer.name: layer.free for layer in network.capacity}
        network = PackedNetwork.resume(Pack.open(pack.path), Mixed(index))
        assert frozen_bits(network, index - 1) == before
        add_task(network, f"task{index}", rate=rate)
        assert frozen_bits(network, index - 1) == before
        for layer in network.capacity:
            assert layer.owned[index - 1] == rooms[layer.name] - round(rate * rooms[layer.name])
        pack = append_task(pack, network.new_task())
        answers[f"task{index}"] = network.logits(probe_batch(SPEC))
    assert pack.capacity() == network.capacity
    assert all(layer.free == 0 for layer in pack.capacity())
    assert {param.name for param in pack.packable if param.pattern} == PATTERNED
    for name in PATTERNED:
        assert int((pack.bank().owners[name] != 0).sum()) * 2 == pack.bank().owners[name].size
    for task, answer in answers.items():
        tensors = pack.load_task(task).tensors
        assert all(obeys(tensors[name] != 0) for name in PATTERNED)
        assert np.array_equal(network.logits(probe_batch(SPEC), tensors), answer)
    with pytest.raises(UsageError, match="no free weights are left"):
        network.begin("one more", ["a", "b"])


def test_full_groups_stay_out_of_training() -> None:
    network = mixed()
    add_task(network, "first", rate=0.5)
    network.begin("second", ["a", "b"])
    owner = network.state.owners["linear.weight"].reshape(12, 2, 4)
    for group in owner.reshape(-1, 4):
        first = int((group == 1).sum())
        assert int((group == 2).sum()) == (4 - first if first < 2 else 0)


def test_the_linear_layers_room_is_counted_by_the_pattern() -> None:
    network = mixed()
    network.begin("first", ["a", "b"])
    network.prune({param.name: 0.0 if param.name == "linear.weight" else 0.5 for param in network.packable})
    network.freeze()
    with pytest.raises(UsageError, match=r"linear layers \(linear\.weight 0 of 48\)"):
        network.begin("second", ["a", "b"], layers="fc")


def test_a_task_that_breaks_the_pattern_never_enters_a_pack(tmp_path: Path) -> None:
    dense = mixed("")
    add_task(dense, "first", rate=0.25)
    claims = mixed().packable
    with pytest.raises(ArtefactError, match=r"'plain\.weight': pack\.json promises 2:4, but more than 2 of 4 weights"):
        create_pack(tmp_path / "p.pack", Backbone("mixed", "head"), SPEC, b"g", claims, first=dense.new_task())
    assert not (tmp_path / "p.pack").exists()


def test_a_pack_of_another_pattern_is_another_network(tmp_path: Path) -> None:
    network = mixed()
    add_task(network, "first")
    pack = new_pack(tmp_path / "p.pack", network)
    text = (pack.path / "pack.json").read_text()
    row = next(line for line in text.splitlines() if "linear.weight" in line)
    (pack.path / "pack.json").write_text(text.replace(row, row.replace(', "pattern": "2:4"', "")))
    with pytest.raises(ArtefactError, match=r"made for another network than mixed: linear\.weight differ"):
        PackedNetwork.resume(Pack.open(pack.path), Mixed())
