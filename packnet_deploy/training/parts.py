"""Which tensors of a module are what: the head's, packable weights, and what a task may have of its own of the rest.

*The head* is one task's output layer, found by name and replaced for every task. *Packable* are the weights of
convolutions and linear layers, the head's aside. Depthwise filters (one input channel each) need not be: they hold a
few percent of a network's weights and can spare none of them, so packed they stay with the first task. *Of its own* a
task may have biases, normalisation with its statistics, and depthwise filters where these are not packed. While such a
task is in training, and until the next one begins, the module holds the task's own values, and those of task 1, which
all others run on, are kept aside.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import ParamSpec
from packnet_deploy.pack.pattern import PATTERN, fits

HEAD_STD = 0.01
TRANSPOSED_LAYERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PACKABLE_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED_LAYERS, nn.Linear)
SEPARATE = ("biases", "norm", "depthwise")
STATISTICAL_LAYERS = (nn.modules.batchnorm._NormBase,)  # statistics of the batch in train mode, running ones in eval
NORM_LAYERS = (*STATISTICAL_LAYERS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


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


def floating_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and floating buffer by name, tied ones once; they share memory with the module."""
    tensors: dict[str, Tensor] = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return tensors | {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


def separable(module: nn.Module, names: Collection[str], kinds: Collection[str]) -> set[str]:
    """Those of the tensors ``names`` that tasks have of their own where ``kinds`` are asked for.

    Raises:
        UsageError: an unknown kind.
    """
    if unknown := sorted(set(kinds) - set(SEPARATE)):
        raise UsageError(f"separate: expected any of {', '.join(SEPARATE)}, got {unknown[0]!r}")
    wanted = set[int]()
    for layer in module.modules():
        if "norm" in kinds and isinstance(layer, NORM_LAYERS):
            wanted |= {id(tensor) for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False))}
        if "biases" in kinds and isinstance(layer, PACKABLE_LAYERS) and layer.bias is not None:
            wanted.add(id(layer.bias))
    tensors = (*module.named_parameters(), *module.named_buffers())
    own = {name for name, tensor in tensors if id(tensor) in wanted}
    if "depthwise" in kinds:
        own |= depthwise_names(module)
    return own & set(names)


def statistical_layers(module: nn.Module, separate: Collection[str] = ()) -> list[nn.Module]:
    """The layers that compute otherwise in training than in inference, but for those with tensors in ``separate``."""
    apart = {id(tensor) for name, tensor in module.named_buffers() if name in separate}
    layers = (layer for layer in module.modules() if isinstance(layer, STATISTICAL_LAYERS))
    return [layer for layer in layers if not any(id(buffer) in apart for buffer in layer.buffers(recurse=False))]


def set_aside(module: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Copies of the tensors ``names``, which the module may now change.

    Averages that count batches (``momentum=None``) begin to count anew, in a network that has just been read from a
    pack as in one that has trained before.
    """
    for name, buffer in module.named_buffers():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked" and f"{layer}.running_mean" in names:
            buffer.zero_()
    return {name: tensor.clone() for name, tensor in floating_tensors(module).items() if name in names}


@torch.no_grad()
def put_back(module: nn.Module, aside: Mapping[str, Tensor]) -> None:
    """Give the module the values kept aside again."""
    tensors = floating_tensors(module)
    for name, values in aside.items():
        tensors[name].copy_(values)
