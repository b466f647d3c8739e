"""How far two runners agree on the same images: the figures of ``packnet verify --against``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.runners.contract import Float32Array, Runner


@dataclass(frozen=True)
class Agreement:
    """One task's logits from two runners.

    Attributes:
        max_difference, mean_difference: of single logits.
        scale: the largest logit of the second runner.
        top1: the share of images to which both give the same class.
    """

    task: str
    images: int
    max_difference: float
    mean_difference: float
    scale: float
    top1: float

    def passes(self, rtol: float, atol: float = 0.0) -> bool:
        """Whether no logit differs by more than ``atol + rtol * scale``; NaN and infinities never pass."""
        return bool(np.isfinite(self.scale)) and self.max_difference <= atol + rtol * self.scale


def agreement(tested: Runner, reference: Runner, task: str, batches: Iterable[Float32Array]) -> Agreement:
    """Ask both runners for every batch of images ``[n, c, h, w]``.

    Raises:
        UsageError: there is no image.
        ArtefactError: they have another number of classes.
    """
    images = logits = same = 0
    largest = total = scale = 0.0
    for batch in batches:
        got, expected = (np.asarray(runner.infer(batch, task), np.float64) for runner in (tested, reference))
        if got.shape != expected.shape:
            raise ArtefactError(f"task '{task}': expected logits {list(expected.shape)}, got {list(got.shape)}")
        difference = np.abs(got - expected)
        largest = float(np.maximum(largest, difference.max()))  # np.maximum, unlike max, hands NaN on
        scale = float(np.maximum(scale, np.abs(expected).max()))
        total += float(difference.sum())
        same += int(np.count_nonzero(got.argmax(axis=1) == expected.argmax(axis=1)))
        images, logits = images + len(batch), logits + difference.size
    if not images:
        raise UsageError(f"task '{task}': expected images to compare on, got none")
    return Agreement(task, images, largest, total / logits, scale, same / images)
