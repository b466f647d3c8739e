"""The head: one task's output layer, found by name and replaced for every task."""

from __future__ import annotations

import copy

from torch import nn

from packnet_deploy.errors import UsageError

HEAD_STD = 0.01


def find_head(module: nn.Module, name: str) -> nn.Linear | nn.Conv2d:
    """The layer called ``name``.

    Raises:
        UsageError: there is none, or it is neither linear nor a convolution.
    """
    try:
        layer = module.get_submodule(name)
    except AttributeError:
        layer = module
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise UsageError(f"head '{name}': expected a Linear or Conv2d of the network; give its module name")
    return layer


def renew_head(module: nn.Module, name: str, classes: int) -> None:
    """Put a fresh head in the place of the present one, like it but ``classes`` wide, on the same device.

    Weights N(0, 0.01), bias 0, as torchvision begins the heads of VGG, SqueezeNet and MobileNet: PyTorch's wider
    default can leave a head that is followed by ReLU (SqueezeNet's) without a single class alive.
    """
    old = find_head(module, name)
    new = copy.deepcopy(old)
    new.weight = nn.Parameter(old.weight.new_empty(classes, *old.weight.shape[1:]))
    if old.bias is not None:
        new.bias = nn.Parameter(old.bias.new_zeros(classes))
    setattr(new, "out_features" if isinstance(new, nn.Linear) else "out_channels", classes)
    nn.init.normal_(new.weight, std=HEAD_STD)
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)
