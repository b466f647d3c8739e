"""Forwards outside of training: in eval mode; on the CPU, with other tensors in place of a module's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


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
