"""The channels of a network: which filters make them, which weights read them, whom they belong to.

A *channel* is what a filter makes and other layers read: in a residual stage all filters that are added up make one
channel, a depthwise filter passes its channel on, and each feature of a flattened map belongs to the channel it came
from. Channels are numbered; all that filter pruning needs to know of a network is in these numbers. Finding them is
following.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FROM_IMAGES = -1  # in place of a channel's number: the network's own input, which every task sees


@dataclass(frozen=True)
class Layer:
    """The channels of one convolution or linear layer: int64 ``[out]`` that it makes and ``[in]`` that it reads."""

    outputs: Tensor
    inputs: Tensor
    groups: int = 1

    @property
    def passes_on(self) -> bool:
        """It makes the channels that it reads: a depthwise convolution."""
        return torch.equal(self.outputs, self.inputs)

    def read_by_filter(self) -> Tensor:
        """int64 ``[out, in / groups]``: the channel behind each input of each filter."""
        return self.inputs.reshape(self.groups, -1).repeat_interleave(len(self.outputs) // self.groups, dim=0)


@dataclass(frozen=True)
class Channels:
    """The channels of a network, numbered from 0.

    Attributes:
        layers: by the name of the layer's packable weight.
        head: int64 ``[features]``, the channels that the head reads.
        norms: by module name, int64 ``[features]``, the channels that a normalisation layer acts on.
        bundles: int64 ``[count]``: channels that come out of the same layers have the same number, from 0.
    """

    layers: dict[str, Layer]
    head: Tensor
    norms: dict[str, Tensor]
    bundles: Tensor

    @property
    def count(self) -> int:
        return len(self.bundles)

    def owners(self, owners: Mapping[str, Tensor]) -> Tensor:
        """uint8 ``[count]``: the task whose filters make a channel, 0 for none, from the weights' owner maps."""
        found = torch.zeros(self.count, dtype=torch.uint8)
        for name, layer in self.layers.items():
            found.scatter_reduce_(0, layer.outputs, owners[name].flatten(1).amax(1).cpu(), "amax")
        return found

    def fed(self, wanted: Tensor) -> Tensor:
        """Those of the ``wanted`` channels (bool ``[count]``) that something comes through where only these are.

        A filter of a grouped convolution may lose all its inputs; its channel then carries nothing, and so on.
        """
        while True:
            there, fed = with_images(wanted), torch.zeros_like(wanted)
            for layer in self.layers.values():
                read = layer.read_by_filter()
                fed[layer.outputs[(there[read] & (read != layer.outputs[:, None])).any(1)]] = True
            if bool((fed | ~wanted).all()):
                return wanted
            wanted = wanted & fed

    def between(self, made: Tensor, read: Tensor) -> dict[str, Tensor]:
        """By weight name, bool ``[out, in / groups]``: where filters of channels ``made`` read channels ``read``."""
        there = with_images(read)
        return {
            name: made[layer.outputs][:, None] & there[layer.read_by_filter()] for name, layer in self.layers.items()
        }


def with_images(chosen: Tensor) -> Tensor:
    """bool ``[count + 1]``: ``chosen`` to be indexed by channel number, ``FROM_IMAGES`` included."""
    return torch.cat([chosen, torch.ones(1, dtype=torch.bool)])


def over(mask: Tensor, weight: Tensor) -> Tensor:
    """A mask ``[out, in]`` for a weight ``[out, in, ...]``: the same for every pixel of the kernel."""
    return mask.reshape(*mask.shape, *[1] * (weight.ndim - 2)).expand(weight.shape).to(weight.device)
