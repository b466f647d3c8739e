"""Which parameters of a module are packed: the weights of convolutions and linear layers, the head's aside.

Depthwise filters (one input channel each) need not be. They hold a few percent of a network's weights and can spare
none of them, so packed they stay with the first task; they may instead be treated as normalisation is: shared, or a
task's own (separate.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import ParamSpec
from packnet_deploy.pack.pattern import PATTERN, fits

TRANSPOSED_LAYERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PACKABLE_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED_LAYERS, nn.Linear)


def packable_weights(module: nn.Module, head: str, depthwise: bool = True) -> dict[str, nn.Parameter]:
    """The packable parameters in ``named_parameters()`` order, tied ones once.

    Args:
        depthwise: depthwise filters are among them.

    Raises:
        UsageError: there are none, or the module has weights that packing would silently leave out.
    """
    layer_weights = {id(m.weight) for m in module.modules() if isinstance(m, PACKABLE_LAYERS)}
    apart = set() if depthwise else depthwise_names(module)
    weights = {}
    for name, parameter in module.named_parameters():
        if name.startswith(f"{head}."):
            continue
        if name in apart:
            continue
        if id(parameter) in layer_weights:
            weights[name] = parameter
        elif sum(side > 1 for side in parameter.shape) > 1:
            raise UsageError(
                f"parameter '{name}' {list(parameter.shape)} is a weight that belongs to no convolution or linear "
                "layer, so packing would silently share it between tasks; this network cannot be packed as it is"
            )
    if not weights:
        raise UsageError("the network has no convolution or linear layer beside its head; there is nothing to pack")
    return weights


def depthwise_names(module: nn.Module) -> set[str]:
    """The weights of convolutions whose filters see one channel each, of several."""
    ids = {
        id(layer.weight)
        for layer in module.modules()
        if isinstance(layer, PACKABLE_LAYERS) and 1 < getattr(layer, "groups", 1) == layer.in_channels
    }
    return {name for name, parameter in module.named_parameters() if id(parameter) in ids}


def param_specs(module: nn.Module, weights: Mapping[str, nn.Parameter], pattern: str) -> tuple[ParamSpec, ...]:
    """The packable parameters as pack.json lists them; ``pattern`` ("" or "2:4") where it is possible.

    2:4 groups input channels, so it needs a multiple of four of them (a depthwise convolution has one), and a layer
    whose weight has them in its second dimension (a transposed convolution has them in its first).

    Raises:
        UsageError: an unknown pattern, or one that no parameter can carry.
    """
    if pattern not in ("", PATTERN):
        raise UsageError(f"pattern: expected {PATTERN!r} or none, got {pattern!r}")
    transposed = {id(m.weight) for m in module.modules() if isinstance(m, TRANSPOSED_LAYERS)}
    specs = []
    for name, weight in weights.items():
        possible = fits(weight.shape) and id(weight) not in transposed
        specs.append(ParamSpec(name, tuple(weight.shape), pattern=pattern if possible else ""))
    if pattern and not any(spec.pattern for spec in specs):
        raise UsageError(f"pattern {pattern}: no layer has a multiple of 4 input channels; pack without a pattern")
    return tuple(specs)


def linear_names(module: nn.Module, weights: Mapping[str, nn.Parameter]) -> set[str]:
    """The packable parameters that are weights of linear layers."""
    linear = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Linear)}
    return {name for name, weight in weights.items() if id(weight) in linear}
