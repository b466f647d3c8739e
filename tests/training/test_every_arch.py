"""Every network that is offered goes through the cycle: built, packed, trained a step, pruned, frozen, exported.

Values do not matter here, so the networks are random and the images as small as the network allows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from packnet_deploy.export.api import export_task
from packnet_deploy.pack import Backbone, create_pack
from packnet_deploy.training.backbones import Weightless, archs, build, input_spec
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.trace import trace_skeleton

CLASSES = ("a", "b", "c", "d")

# One network of each kind of layers, as small as they come: the others are built of the same ones.
QUICK = (
    "quickstart",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
)
HEAVY = ("alexnet", "convnext_tiny", "inception_v3", "resnet50")


def side(arch: str) -> int:
    """Pixels. Smaller maps would do in most, but BatchNorm's gradients explode on maps of a single pixel."""
    return 96 if arch == "inception_v3" else 64


@pytest.mark.parametrize(
    "arch", [a if a in QUICK + HEAVY else pytest.param(a, marks=pytest.mark.slow) for a in archs()]
)
def test_every_weight_is_packed_shared_or_the_heads_and_learns(arch: str) -> None:
    """Forward and backward in train mode on shapes alone."""
    with Weightless():
        module, head = build(arch, len(CLASSES))
    network = PackedNetwork(module.to("meta"), head, input_spec(arch, side(arch)))
    packed = {f"{head}.weight", *(param.name for param in network.packable)}
    matrices = {name for name, weight in module.named_parameters() if weight.numel() > max(weight.shape)}
    assert packed == matrices
    logits = module.train()(torch.empty(2, *network.spec.shape, device="meta"))
    assert logits.shape == (2, len(CLASSES))
    logits.sum().backward()
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]


def cycle(arch: str) -> PackedNetwork:
    """One task of one step, frozen; checked on the way."""
    torch.manual_seed(0)
    module, head = build(arch, 2)
    network = PackedNetwork(module, head, input_spec(arch, side(arch)))
    network.begin("task", CLASSES)
    optimizer = network.guarded(torch.optim.SGD(network.trainable_parameters(), lr=1e-5, momentum=0.9))
    module.train()
    loss = nn.functional.cross_entropy(module(torch.randn(4, *network.spec.shape)), torch.arange(4))
    loss.backward()
    optimizer.step()
    assert bool(loss.isfinite())
    weights = {param.name: module.get_parameter(param.name) for param in network.packable}
    assert not [name for name, weight in weights.items() if weight.grad is None or not bool(weight.grad.any())]
    network.prune(0.5)
    network.freeze()
    for layer in network.capacity:
        assert layer.free == round(layer.size * 0.5), layer.name
    return network


def export(arch: str, network: PackedNetwork, folder: Path) -> None:
    """Create a pack and export its task; both check logits in ONNX Runtime."""
    graph = trace_skeleton(network.module, network.head, network.spec).SerializeToString(deterministic=True)
    backbone = Backbone(arch, network.head)
    pack = create_pack(folder / "p.pack", backbone, network.spec, graph, network.packable, network.new_task())
    report = export_task(pack, "task", folder / "task.onnx")
    probe = pack.load_task("task").probe_logits
    assert probe.shape[1] == len(CLASSES)
    assert bool(np.isfinite(probe).all())
    noise = {"Shape", "Expand", "Cast", "CastLike", "Gather", "Unsqueeze", "ConstantOfShape", "Identity", "Squeeze"}
    assert not noise & report.operators.keys()


@pytest.mark.parametrize("arch", QUICK)
def test_one_of_each_kind_is_trained_and_pruned(arch: str) -> None:
    cycle(arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", QUICK + HEAVY)
def test_one_of_each_kind_is_exported(arch: str, tmp_path: Path) -> None:
    export(arch, cycle(arch), tmp_path)
