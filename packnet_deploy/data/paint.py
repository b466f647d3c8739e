"""Colour and noise for the computed image sets: a coverage map becomes a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]  # float32 throughout

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def paint(
    coverage: Float, rng: np.random.Generator, contrast: tuple[float, float], noise: float
) -> npt.NDArray[np.uint8]:
    """Blend two random colours by ``coverage``, shade one side, add noise.

    Neither colour is always the darker one, so nothing can be told from brightness alone.

    Args:
        coverage: float32 ``[n, side, side]`` in 0..1; 0 shows the first colour, 1 the second.
        contrast: smallest and largest difference of the two colours' brightness, on a scale of 0..1.
        noise: largest standard deviation of the noise, on the same scale.

    Returns:
        uint8 ``[n, side, side, 3]``.
    """
    n, side, _ = coverage.shape
    gap = rng.uniform(*contrast, n)
    dark = rng.uniform(0, 1 - gap)
    levels = np.stack([dark, dark + gap])
    levels = np.where(rng.random(n) < 0.5, levels, levels[::-1])
    first, second = (_coloured(level, rng)[:, None, None, :] for level in levels)
    picture = first + (second - first) * coverage[..., None]
    # A linear shade across the picture, as from a lamp on one side.
    slope = rng.uniform(-0.15, 0.15, (2, n, 1, 1)).astype(np.float32)
    along = np.linspace(-1, 1, side, dtype=np.float32)
    picture += (slope[0] * along[:, None] + slope[1] * along)[..., None]
    spread = rng.uniform(0, noise, (n, 1, 1, 1)).astype(np.float32)
    picture += rng.standard_normal(picture.shape, np.float32) * spread
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _coloured(level: npt.NDArray[np.float64], rng: np.random.Generator) -> Float:
    """Random colours of a given brightness: float32 ``[n, 3]``; tints beyond 0..1 are clipped by the painter."""
    tint = rng.uniform(-0.35, 0.35, (len(level), 3)).astype(np.float32)
    tint -= (tint @ LUMA)[:, None]
    return level[:, None].astype(np.float32) + tint
