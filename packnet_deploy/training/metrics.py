"""Top-1 and top-5 errors, as the paper reports them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from packnet_deploy.training.distributed import summed


class Errors(NamedTuple):
    """Fractions 0..1 of images misjudged; NaN without images. Top-5 is 0 where there are five classes or fewer."""

    top1: float
    top5: float


@torch.inference_mode()
def errors(
    module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], tensors: Mapping[str, Tensor] | None = None
) -> Errors:
    """Errors in eval mode; the modules' modes are put back. Of all processes' images together.

    Args:
        batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the module's device; each process its own.
        tensors: used in place of the module's own, by name (another task's weights).
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    wrong1 = wrong5 = seen = 0
    for images, labels in batches:
        logits = module(images) if tensors is None else torch.func.functional_call(module, dict(tensors), (images,))
        best = logits.float().topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        wrong1 += len(labels) - int(best[:, 0].sum())
        wrong5 += len(labels) - int(best.any(dim=1).sum())
        seen += len(labels)
    for part, training in modes:
        part.training = training
    wrong1, wrong5, seen = (int(n) for n in summed([wrong1, wrong5, seen]))
    return Errors(wrong1 / seen, wrong5 / seen) if seen else Errors(math.nan, math.nan)
