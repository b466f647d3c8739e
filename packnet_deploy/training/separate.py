"""What a task may have of its own beside packed weights and head: biases, normalisation with its statistics, or
depthwise filters where these are not packed.

While such a task is in training, and until the next one begins, the module holds the task's own values, and those of
task 1, which all others run on, are kept aside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from packnet_deploy.errors import UsageError
from packnet_deploy.training.packable import PACKABLE_LAYERS, depthwise_names

SEPARATE = ("biases", "norm", "depthwise")
STATISTICAL_LAYERS = (nn.modules.batchnorm._NormBase,)  # statistics of the batch in train mode, running ones in eval
NORM_LAYERS = (*STATISTICAL_LAYERS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


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
