"""How far two sets of logits lie apart: what every check of a pack, an export, a plan or a runner comes down to.

Which logits are held against which, and what it means if they differ, is the business of whoever checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.runners.contract import Float32Array, Runner

TOLERANCE = 1e-4  # of the logits' scale; float32 in another order of summation stays an order of magnitude below


@dataclass(frozen=True)
class Difference:
    """How far two sets of logits lie apart; NaN or infinite logits never pass."""

    max_difference: float  # largest |got - expected|
    scale: float  # largest |expected|
    rtol: float = TOLERANCE  # of the scale
    atol: float = 0.0

    @property
    def allowed(self) -> float:
        return self.atol + self.rtol * self.scale

    @property
    def passes(self) -> bool:
        return bool(np.isfinite(self.scale)) and self.max_difference <= self.allowed

    @property
    def of_allowed(self) -> float:
        """The difference as a share of what is allowed."""
        return _share(self.max_difference, self.allowed)

    @property
    def of_scale(self) -> float:
        """The difference as a share of the largest logit."""
        return _share(self.max_difference, self.scale)

    def __str__(self) -> str:
        absolute = f"{self.atol:g} and " if self.atol else ""
        return (
            f"logits differ by up to {self.max_difference:.3g}, allowed is {self.allowed:.3g} "
            f"({absolute}{self.rtol:g} of their scale {self.scale:.3g})"
        )


@dataclass(frozen=True)
class Agreement:
    """One task's logits from two runners, over any number of images.

    Attributes:
        difference: the largest, as ``compare`` has it.
        mean_difference: of single logits.
        top1: the share of images to which both give the same class.
    """

    task: str
    images: int
    difference: Difference
    mean_difference: float
    top1: float


def compare(
    got: Float32Array, expected: Float32Array, rtol: float = TOLERANCE, atol: float = 0.0, what: str = "logits"
) -> Difference:
    """The difference between two arrays ``[images, classes]``.

    Raises:
        ArtefactError: their shapes differ; begins with ``what``.
    """
    if got.shape != expected.shape:
        raise ArtefactError(f"{what}: expected shape {list(expected.shape)}, got {list(got.shape)}")
    return Difference(
        max_difference=float(np.max(np.abs(got.astype(np.float64) - expected), initial=0.0)),
        scale=float(np.max(np.abs(expected), initial=0.0)),
        rtol=rtol,
        atol=atol,
    )


def worst(differences: Iterable[Difference]) -> Difference | None:
    """The one nearest to what it is allowed, or furthest beyond it; None where there is none."""
    return max(differences, key=lambda difference: difference.of_allowed, default=None)


def agreement(
    tested: Runner, reference: Runner, task: str, batches: Iterable[Float32Array], rtol: float = TOLERANCE
) -> Agreement:
    """Ask both runners for every batch of images ``[n, c, h, w]``, and compare.

    Raises:
        UsageError: there is no image.
        ArtefactError: they have another number of classes.
    """
    parts: list[Difference] = []
    images = logits = same = 0
    total = 0.0
    for batch in batches:
        got, expected = tested.infer(batch, task), reference.infer(batch, task)
        parts.append(compare(got, expected, rtol, what=f"task '{task}': logits"))
        total += float(np.abs(got.astype(np.float64) - expected).sum())
        same += int(np.count_nonzero(got.argmax(axis=1) == expected.argmax(axis=1)))
        images, logits = images + len(batch), logits + got.size
    if not images:
        raise UsageError(f"task '{task}': expected images to compare on, got none")
    largest = float(np.max([part.max_difference for part in parts]))  # np.max, unlike max, hands NaN on
    scale = float(np.max([part.scale for part in parts]))
    return Agreement(task, images, Difference(largest, scale, rtol), total / logits, same / images)


def _share(part: float, whole: float) -> float:
    if whole:
        return part / whole
    return float("inf") if part else 0.0
