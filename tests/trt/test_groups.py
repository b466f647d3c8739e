"""What a refit is given in one go: merged weights together, as many as fit, side by side where they can be."""

from __future__ import annotations

import numpy as np

from packnet_deploy.trt.bank import Weight
from packnet_deploy.trt.groups import Group, clusters_of, groups_of, largest_group
from packnet_deploy.trt.layout import layout_of

WEIGHTS = [Weight(name, (128,), "fp16", name != "head") for name in ("a", "b", "c", "d", "head")]  # a place each
LAYOUT = layout_of(WEIGHTS, np.dtype(np.float16))


def names(groups: list[Group]) -> list[list[list[str]]]:
    return [[[slot.weight.name for slot in run.slots] for run in group] for group in groups]


def test_what_misses_another_goes_with_it() -> None:
    """However it is told: one way, both ways, or in a chain."""
    assert clusters_of(["a", "b", "c"], {}) == [("a",), ("b",), ("c",)]
    assert clusters_of(["a", "b", "c"], {"c": ["a"]}) == [("a", "c"), ("b",)]
    assert clusters_of(["a", "b", "c", "d"], {"d": ["b"], "b": ["d"], "c": ["b"]}) == [("a",), ("b", "c", "d")]


def test_as_many_as_fit() -> None:
    clusters = [("a",), ("b",), ("c",), ("d",)]
    assert names(groups_of(LAYOUT, clusters, 128)) == [[["a"]], [["b"]], [["c"]], [["d"]]]
    assert names(groups_of(LAYOUT, clusters, 300)) == [[["a", "b"]], [["c", "d"]]]
    assert names(groups_of(LAYOUT, clusters, 5000)) == [[["a", "b", "c", "d"]]]
    assert groups_of(LAYOUT, [], 128) == []


def test_neighbours_are_one_run_and_others_are_not() -> None:
    (group,) = groups_of(LAYOUT, [("a", "b"), ("d", "head")], 5000)
    assert [[slot.weight.name for slot in run.slots] for run in group] == [["a", "b"], ["d"], ["head"]]
    assert [(run.first, run.last, run.at, run.banked) for run in group] == [
        (0, 256, 0, True),
        (384, 512, 256, True),
        (512, 640, 384, False),
    ]


def test_a_cluster_larger_than_the_buffer_says_how_large_it_must_be() -> None:
    assert largest_group(LAYOUT, [("a",), ("b", "c", "d")]) == 3 * 128
    assert names(groups_of(LAYOUT, [("a",), ("b", "c", "d")], 128)) == [[["a"]], [["b", "c", "d"]]]
