"""Forwards outside of training: in eval mode, with other tensors in place of a module's own; and how often they err.

Errors are top-1 and top-5, as the paper reports them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from packnet_deploy.training.distributed import summed


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; each submodule's own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def cpu_logits(
    module: nn.Module, images: npt.NDArray[np.float32], tensors: Mapping[str, Tensor]
) -> npt.NDArray[np.float32]:
    """``module(images)`` with ``tensors`` (on the CPU, by the module's names); its modes and values stay as they are.

    Args:
        images: float32 ``[n, c, h, w]``, normalised.
    """
    with evaluating(module), torch.inference_mode():
        answer = torch.func.functional_call(module, dict(tensors), (torch.from_numpy(images),))
    return np.asarray(answer.numpy())


class Errors(NamedTuple):
    """Fractions 0..1 of images misjudged; NaN without images. Top-5 is 0 where there are five classes or fewer."""

    top1: float
    top5: float


@torch.inference_mode()
def errors(
    module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], tensors: Mapping[str, Tensor] | None = None
) -> Errors:
    """Errors in eval mode, of all processes' images together.

    Args:
        batches: float images ``[b, c, h, w]`` and int64 labels ``[b]``, on the module's device; each process its own.
        tensors: used in place of the module's own, by name (another task's weights).
    """
    wrong1 = wrong5 = seen = 0
    with evaluating(module):
        for images, labels in batches:
            logits = module(images) if tensors is None else torch.func.functional_call(module, dict(tensors), (images,))
            best = logits.float().topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            wrong1 += len(labels) - int(best[:, 0].sum())
            wrong5 += len(labels) - int(best.any(dim=1).sum())
            seen += len(labels)
    wrong1, wrong5, seen = (int(n) for n in summed([wrong1, wrong5, seen]))
    return Errors(wrong1 / seen, wrong5 / seen) if seen else Errors(math.nan, math.nan)
