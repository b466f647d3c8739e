"""``builtin:textures``: ten families of computed patterns, in random colours, scales, phases, turns and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from packnet_deploy.data.builtin import SIDE, BuiltinSet, Float, LabelledPixels, paint

TRAIN_COUNT, TEST_COUNT = 200, 50  # images of each family


@dataclass(frozen=True, eq=False)
class Plane:
    """``n`` turned and shifted coordinate systems over the image, in units of the pattern's period."""

    u: Float  # [n, SIDE, SIDE]
    v: Float  # [n, SIDE, SIDE]
    sharpness: Float  # [n, 1, 1], edge slope per period: about one pixel wide
    rng: np.random.Generator


def make() -> BuiltinSet:
    """``TRAIN_COUNT`` and ``TEST_COUNT`` images of each family. A mirrored texture is of the same family."""
    rng = np.random.default_rng(1)
    return BuiltinSet(tuple(FAMILIES), _draw(TRAIN_COUNT, rng), _draw(TEST_COUNT, rng), flip=True)


def _draw(count: int, rng: np.random.Generator) -> LabelledPixels:
    coverage = np.concatenate([family(_plane(count, rng)) for family in FAMILIES.values()])
    labels = np.repeat(np.arange(len(FAMILIES)), count)
    return LabelledPixels(paint(coverage, rng, contrast=(0.35, 0.9), noise=0.08), labels)


def _plane(n: int, rng: np.random.Generator) -> Plane:
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1)).astype(np.float32)
    period = rng.uniform(5, 9, (n, 1, 1)).astype(np.float32)  # pixels
    shift = rng.uniform(0, 8, (2, n, 1, 1)).astype(np.float32)  # periods
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - SIDE / 2
    u = (np.cos(angle) * x - np.sin(angle) * y) / period + shift[0]
    v = (np.sin(angle) * x + np.cos(angle) * y) / period + shift[1]
    return Plane(u, v, period, rng)


def _edge(distance: Float, plane: Plane) -> Float:
    """1 inside (positive distance, in periods), 0 outside, a ramp of about a pixel between."""
    return (distance * plane.sharpness + 0.5).clip(0, 1)


def _fold(x: Float) -> Float:
    """Distance to the nearest whole number: a triangle wave between 0 and 0.5."""
    return np.abs(x - np.round(x))


def _stripes(p: Plane) -> Float:
    return _edge(_fold(p.u) - 0.25, p)


def _checks(p: Plane) -> Float:
    # The sign of a product of two triangle waves, each crossing 0 where a row or column of squares ends.
    across, down = _fold(p.u / 2) - 0.25, _fold(p.v / 2) - 0.25
    return _edge(8 * across * down, p)


def _grid(p: Plane) -> Float:
    return _edge(0.14 - np.minimum(_fold(p.u), _fold(p.v)), p)


def _dots(p: Plane) -> Float:
    return _edge(0.3 - np.hypot(_fold(p.u), _fold(p.v)), p)


def _rings(p: Plane) -> Float:
    """Circles around one centre in or near the picture."""
    n = len(p.u)
    centre = p.rng.integers(0, SIDE, (2, n))
    at = np.arange(n), centre[0], centre[1]
    radius = np.hypot(p.u - p.u[at][:, None, None], p.v - p.v[at][:, None, None])
    return _edge(_fold(radius) - 0.25, p)


def _waves(p: Plane) -> Float:
    """Stripes that sway."""
    sway = p.rng.uniform(0.25, 0.4, (len(p.u), 1, 1)).astype(np.float32)
    return _edge(_fold(p.u + sway * np.sin(np.pi * p.v)) - 0.25, p)


def _zigzag(p: Plane) -> Float:
    """Stripes that turn at sharp corners."""
    return _edge(_fold(p.u + 2 * _fold(p.v / 2)) - 0.25, p)


def _bricks(p: Plane) -> Float:
    """Rows of oblong stones, every other row shifted by half a stone."""
    row = np.floor(p.u + 0.5)
    joint = _fold(p.v / 2 + row / 2) * 2  # in periods
    return _edge(np.minimum(0.5 - _fold(p.u), joint) - 0.1, p)


def _clouds(p: Plane) -> Float:
    """Smooth random blotches: a few plane waves of random direction, as fine as the other patterns."""
    n = len(p.u)
    total = np.zeros_like(p.u)
    for _ in range(6):
        direction, phase = p.rng.uniform(0, 2 * np.pi, (2, n, 1, 1)).astype(np.float32)
        pace = p.rng.uniform(1, 5, (n, 1, 1)).astype(np.float32)
        total += np.sin(pace * (np.cos(direction) * p.u + np.sin(direction) * p.v) + phase)
    return (total / 5 + 0.5).clip(0, 1)


def _gradient(p: Plane) -> Float:
    """One slow passage between the two colours."""
    along = p.u * p.sharpness  # back to pixels: as wide as the picture, whatever the period
    low, high = along.min(axis=(1, 2), keepdims=True), along.max(axis=(1, 2), keepdims=True)
    coverage: Float = (along - low) / (high - low)
    return coverage


FAMILIES: dict[str, Callable[[Plane], Float]] = {
    "bricks": _bricks,
    "checks": _checks,
    "clouds": _clouds,
    "dots": _dots,
    "gradient": _gradient,
    "grid": _grid,
    "rings": _rings,
    "stripes": _stripes,
    "waves": _waves,
    "zigzag": _zigzag,
}
