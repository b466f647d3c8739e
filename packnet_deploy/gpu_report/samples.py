"""Packs to measure with: torchvision's networks as PackNet packs them, their weights random instead of trained.

Speed, memory and exactness depend on shapes and zeros, not on what was learnt. Needs PyTorch, to draw the networks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from packnet_deploy.pack import Backbone, Pack, append_task, create_pack
from packnet_deploy.pack.pattern import GROUP, fits
from packnet_deploy.training.backbones import build, input_spec
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.trace import trace_skeleton

TASKS = ("one", "two", "three")
RATE = 0.75  # of what a task takes, given back; the paper's
CLASSES = 100
LATER = 0.1  # of the first task's values
CALIBRATION = 8  # images that normalisation statistics are taken from


def sample_pack(
    path: Path, arch: str, image_size: int = 224, *, tasks: Sequence[str] = TASKS, pattern: str = ""
) -> Pack:
    """A pack of several tasks; the last one takes all that is free. One that is there already is taken as it is.

    Args:
        pattern: "2:4" or none, as ``packnet train --pattern``.
    """
    if path.exists():
        return Pack.open(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        return Pack.open(_drawn(Path(folder) / path.name, arch, image_size, tasks, pattern).path.rename(path))


def _drawn(path: Path, arch: str, image_size: int, tasks: Sequence[str], pattern: str) -> Pack:
    torch.manual_seed(0)
    network = _network(arch, image_size, pattern)
    pack = None
    for task in tasks:
        network.begin(task, _names(task))
        _randomise(network)
        network.prune(0.0 if task == tasks[-1] else RATE)
        pack = _added(pack, path, arch, network)
    assert pack is not None
    return pack


def breaking_packs(folder: Path, arch: str, image_size: int) -> tuple[Pack, Pack]:
    """A pack whose one task keeps to 2:4 though nothing promises it, and the same grown by a task that does not."""
    for name in ("before.pack", "grown.pack"):  # of a process that died
        shutil.rmtree(folder / name, ignore_errors=True)
    torch.manual_seed(0)
    network = _network(arch, image_size)
    claim = {name: _half_of_every_group(weight) for name, weight in _packable(network).items()}
    network.begin("fits", _names("fits"), claim=claim)
    _randomise(network)
    network.prune(0.0)
    before = _added(None, folder / "before.pack", arch, network)
    grown = Pack.open(Path(shutil.copytree(before.path, folder / "grown.pack")))
    network.begin("breaks", _names("breaks"))
    _randomise(network)
    network.prune(0.0)
    return before, _added(grown, grown.path, arch, network)


def _network(arch: str, image_size: int, pattern: str = "") -> PackedNetwork:
    return PackedNetwork(*build(arch, CLASSES), input_spec(arch, image_size), pattern)


def _names(task: str) -> tuple[str, ...]:
    return tuple(f"{task} {number}" for number in range(CLASSES))


def _packable(network: PackedNetwork) -> dict[str, torch.Tensor]:
    parameters = dict(network.module.named_parameters())
    return {param.name: parameters[param.name].detach() for param in network.packable}


def _half_of_every_group(weight: torch.Tensor) -> torch.Tensor:
    keep = torch.ones_like(weight, dtype=torch.bool)
    if fits(tuple(weight.shape)):
        keep[:, torch.arange(weight.shape[1]) % GROUP >= GROUP // 2] = False
    return keep


def _randomise(network: PackedNetwork) -> None:
    """Give everything that the task may change values: the first as large as those of an untrained network, later ones
    a tenth of that, or activations, normalised by the first one's statistics, would leave fp16's range layer by layer.

    The head's bias is as large as its logits, so that an engine that loses it shows.
    """
    with torch.no_grad():
        for name, weight in _packable(network).items():
            owned = network.state.owners[name] == network.state.task
            fan_in = weight[0].numel()
            size = (2 / fan_in) ** 0.5 * (1 if network.state.task == 1 else LATER)
            weight[owned] = torch.randn(int(owned.sum())) * size
        head = network.module.get_submodule(network.head)
        assert isinstance(head.bias, nn.Parameter)
        head.bias.normal_()
        if network.state.task == 1:
            _calibrate(network)


def _calibrate(network: PackedNetwork) -> None:
    """Normalisation statistics of random images, so that activations neither vanish nor overflow in half precision."""
    norms = [layer for layer in network.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    network.module.train()
    network.module(torch.randn(CALIBRATION, *network.spec.shape))
    network.module.eval()
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum


def _added(pack: Pack | None, path: Path, arch: str, network: PackedNetwork) -> Pack:
    network.freeze()
    if pack is not None:
        return append_task(pack, network.new_task())
    skeleton = trace_skeleton(network.module, network.head, network.spec).SerializeToString(deterministic=True)
    return create_pack(path, Backbone(arch, network.head), network.spec, skeleton, network.packable, network.new_task())
