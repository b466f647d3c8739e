"""How much each channel matters: the Taylor criterion, which estimates what the loss would be without it.

Source: Molchanov, Tyree, Karras, Aila and Kautz, "Pruning Convolutional Neural Networks for Resource Efficient
Inference", ICLR 2017, section 2.2 (https://arxiv.org/abs/1611.06440): |activation × gradient|, summed over a feature
map, averaged over images, l2-normalised over the layer so that layers compare.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from packnet_deploy.training.distributed import summed
from packnet_deploy.training.methods.channels import Channels


def importance(
    module: nn.Module, head: str, channels: Channels, batches: Iterable[tuple[Tensor, Tensor]], images: int
) -> Tensor:
    """float64 ``[count]``, 0 or more: the importance of every channel, l2-normalised over its bundle.

    Activation and gradient are taken where a channel is read, for there it would be missing: after normalisation and
    activation, and for every layer that reads it (what a removed channel costs is the sum over its readers). Of all
    processes' images together; the module runs in eval mode and is left as it was.

    Args:
        batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the module's device.
        images: stop when so many have been seen by this process.
    """
    readers = {name.removesuffix(".weight"): x.inputs for name, x in channels.layers.items() if not x.passes_on}
    readers[head] = channels.head
    seen: list[tuple[Tensor, Tensor]] = []  # channels read, and their activations

    def note(name: str) -> RemovableHandle:
        def before(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
            if not inputs[0].requires_grad:  # the images
                return None
            here = inputs[0].view_as(inputs[0])  # a branch of its own: its gradient is this reader's alone
            seen.append((readers[name], here))
            return (here,)

        return module.get_submodule(name).register_forward_pre_hook(before)

    modes = [(part, part.training) for part in module.modules()]
    hooks = [note(name) for name in readers]
    scores, left = torch.zeros(channels.count, dtype=torch.float64), images
    module.eval()
    try:
        for batch, labels in batches:
            loss = nn.functional.cross_entropy(module(batch), labels, reduction="sum")
            gradients = torch.autograd.grad(loss, [here for _, here in seen])
            scores += _changes(seen, gradients, channels.count).abs().sum(0)
            seen.clear()
            left -= len(labels)
            if left <= 0:
                break
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes:
            part.training = training
    total = torch.tensor(summed(scores.tolist()), dtype=torch.float64)
    squares = torch.zeros(int(channels.bundles.max()) + 1, dtype=torch.float64)
    norms = squares.index_add_(0, channels.bundles, total.square()).sqrt()[channels.bundles]
    return total / norms.clamp(min=torch.finfo(torch.float64).tiny)


@torch.no_grad()
def _changes(seen: list[tuple[Tensor, Tensor]], gradients: tuple[Tensor, ...], count: int) -> Tensor:
    """float64 ``[b, count]``: activation × gradient of each image and channel, summed over pixels and readers."""
    changes = torch.zeros(len(gradients[0]), count + 1, dtype=torch.float64)  # the last: of FROM_IMAGES
    for (numbers, activation), gradient in zip(seen, gradients, strict=True):
        products = (activation * gradient).reshape(len(gradient), len(numbers), -1).sum(2)
        changes.index_add_(1, numbers.remainder(count + 1), products.double().cpu())
    return changes[:, :count]
