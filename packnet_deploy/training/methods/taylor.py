"""How much a weight or a channel matters: the Taylor criterion, which estimates what the loss would be without it.

Of a weight: (weight × gradient)², mean over batches. Source: Molchanov, Mallya, Tyree, Frosio and Kautz, "Importance
Estimation for Neural Network Pruning", CVPR 2019, section 3 (https://arxiv.org/abs/1906.10771).

Of a channel: |activation × gradient|, summed over a feature map, averaged over images, l2-normalised over the layer so
that layers compare. Source: Molchanov, Tyree, Karras, Aila and Kautz, "Pruning Convolutional Neural Networks for
Resource Efficient Inference", ICLR 2017, section 2.2 (https://arxiv.org/abs/1611.06440).

Both are of all processes' images together; the module runs in eval mode and is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from packnet_deploy.training.distributed import summed, summed_tensor
from packnet_deploy.training.inference import evaluating
from packnet_deploy.training.methods.channels import Channels

IMAGES = 2048  # looked at to judge a network

Batches = Iterable[tuple[Tensor, Tensor]]


def weight_importance(
    module: nn.Module, weights: Mapping[str, nn.Parameter], batches: Batches, images: int = IMAGES
) -> dict[str, Tensor]:
    """By name, of the weight's shape, 0 or more: the importance of every weight; 0 where nothing is to be learned.

    Args:
        weights: parameters of ``module``.
        batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the module's device.
        images: stop when so many have been seen.
    """
    scores = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    judged = {name: weight for name, weight in weights.items() if weight.requires_grad}
    if not judged:
        return scores
    seen = 0
    with evaluating(module):
        for loss, count in _losses(module, batches, images):
            gradients = torch.autograd.grad(loss, list(judged.values()), allow_unused=True, materialize_grads=True)
            for (name, weight), gradient in zip(judged.items(), gradients, strict=True):
                scores[name] += (weight.detach() * (summed_tensor(gradient) / count)).square()
            seen += 1
    return {name: score / max(seen, 1) for name, score in scores.items()}


def importance(module: nn.Module, head: str, channels: Channels, batches: Batches, images: int) -> Tensor:
    """float64 ``[count]``, 0 or more: the importance of every channel, l2-normalised over its bundle.

    Activation and gradient are taken where a channel is read, for there it would be missing: after normalisation and
    activation, and for every layer that reads it (what a removed channel costs is the sum over its readers).

    Args:
        batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the module's device.
        images: stop when so many have been seen.
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

    hooks = [note(name) for name in readers]
    scores = torch.zeros(channels.count, dtype=torch.float64)
    try:
        with evaluating(module):
            for loss, _ in _losses(module, batches, images):
                gradients = torch.autograd.grad(loss, [here for _, here in seen])
                scores += _changes(seen, gradients, channels.count).abs().sum(0)
                seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    total = torch.tensor(summed(scores.tolist()), dtype=torch.float64)
    squares = torch.zeros(int(channels.bundles.max()) + 1, dtype=torch.float64)
    norms = squares.index_add_(0, channels.bundles, total.square()).sqrt()[channels.bundles]
    return total / norms.clamp(min=torch.finfo(torch.float64).tiny)


def _losses(module: nn.Module, batches: Batches, images: int) -> Iterator[tuple[Tensor, float]]:
    """Of each batch this process's sum of losses, and how many images all processes have in it; up to ``images``."""
    left: float = images
    for batch, labels in batches:
        (count,) = summed([len(labels)])
        yield nn.functional.cross_entropy(module(batch), labels, reduction="sum"), count
        left -= count
        if left <= 0:
            break


@torch.no_grad()
def _changes(seen: list[tuple[Tensor, Tensor]], gradients: tuple[Tensor, ...], count: int) -> Tensor:
    """float64 ``[b, count]``: activation × gradient of each image and channel, summed over pixels and readers."""
    changes = torch.zeros(len(gradients[0]), count + 1, dtype=torch.float64)  # the last: of FROM_IMAGES
    for (numbers, activation), gradient in zip(seen, gradients, strict=True):
        products = (activation * gradient).reshape(len(gradient), len(numbers), -1).sum(2)
        changes.index_add_(1, numbers.remainder(count + 1), products.double().cpu())
    return changes[:, :count]
