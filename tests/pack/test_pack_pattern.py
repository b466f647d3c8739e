"""2:4 in packs: what pack.json may promise, and that packs whose owners break a promise are neither made nor used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pack_worlds import World, contents, make_world

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack import LayerCapacity, Pack, ParamSpec, append_task, apply_delta, capacity, extract_delta
from packnet_deploy.pack.pattern import budget, fits, obeys
from packnet_deploy.runners.verify import verify_pack

PROMISED = ParamSpec("body.weight", (5, 12), pattern="2:4")
PARAMS = (ParamSpec("stem.weight", (3, 3, 3, 3)), PROMISED, ParamSpec("one.weight", (1,)))
BREAKS = r"'body\.weight': pack\.json promises 2:4, but more than 2 of 4 weights would have an owner"


def world(*, breaking: int = 0) -> World:
    """Three tasks; ``body.weight`` is 2:4 but for one weight too many that task ``breaking`` takes."""
    made = make_world(PARAMS, shares=((0.3,), (0.5,), (0.5,)), seed=3)
    groups = made.owners["body.weight"].reshape(-1, 4)
    groups[:] = 0
    groups[:, 0], groups[:, 2] = 1, np.arange(len(groups)) % 3 + 1
    groups[0, 1] = breaking
    return made


def test_the_pattern_is_read_back(tmp_path: Path) -> None:
    pack = world().build(tmp_path / "p.pack")
    rows = json.loads((pack.path / "pack.json").read_text())["packable"]
    assert [row.get("pattern") for row in rows] == [None, "2:4", None], "written where it is set"
    assert Pack.open(pack.path).packable == PARAMS
    assert pack.capacity() == capacity(pack.bank().owners, 3, ["body.weight"])
    assert [(layer.pattern, layer.room) for layer in pack.capacity()] == [("", 81), ("2:4", 30), ("", 1)]
    assert pack.capacity()[1].free == 0


def test_room_is_what_can_have_an_owner() -> None:
    layer = LayerCapacity("w", 16, (3, 2), "2:4")
    assert (layer.room, layer.free, budget(16)) == (8, 3, 8)
    assert LayerCapacity("w", 16, (3, 2)).free == 11
    assert LayerCapacity("w", 16, (4, 12), "2:4").free == 0, "a task in training holds more than it may keep"


def test_groups_are_four_inputs_of_one_output_and_pixel() -> None:
    present = np.zeros((2, 8, 3), bool)
    present[0, 2:6, 1] = True  # two of the first group, two of the second
    assert obeys(present)
    present[0, 1, 2] = True  # another pixel
    assert obeys(present)
    present[0, 1, 1] = True
    assert not obeys(present)
    assert all(map(fits, [(1, 4), (8, 8, 3, 3), (3, 12, 5)]))
    assert not any(map(fits, [(4,), (8, 3, 3, 3), (8, 1, 3, 3)]))


@pytest.mark.parametrize("value", ["1:2", "2:4 ", "dense", None, 24, True, [], ["2:4"], {"2:4": 1}, "2:4\n"], ids=repr)
def test_other_patterns_are_refused(tmp_path: Path, value: Any) -> None:
    pack = world().build(tmp_path / "p.pack", tasks=0)
    document = json.loads((pack.path / "pack.json").read_text())
    document["packable"][1]["pattern"] = value
    (pack.path / "pack.json").write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match=r"packable 'body\.weight': pattern .* is not '2:4'"):
        Pack.open(pack.path)


@pytest.mark.parametrize("index", [0, 2])
def test_a_shape_without_groups_cannot_carry_it(tmp_path: Path, index: int) -> None:
    pack = world().build(tmp_path / "p.pack", tasks=0)
    document = json.loads((pack.path / "pack.json").read_text())
    document["packable"][index]["pattern"] = "2:4"
    (pack.path / "pack.json").write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match=r"shape \[.*\] cannot keep to 2:4"):
        Pack.open(pack.path)


def test_an_empty_pattern_is_none(tmp_path: Path) -> None:
    pack = world().build(tmp_path / "p.pack", tasks=1)
    document = json.loads((pack.path / "pack.json").read_text())
    document["packable"][0]["pattern"] = ""
    (pack.path / "pack.json").write_text(json.dumps(document))
    assert Pack.open(pack.path) == pack


@pytest.mark.parametrize("breaking", [1, 2, 3])
def test_a_task_that_breaks_the_pattern_is_not_added(tmp_path: Path, breaking: int) -> None:
    made = world(breaking=breaking)
    pack = made.build(tmp_path / "p.pack", tasks=breaking - 1)
    before = contents(pack.path)
    with pytest.raises(ArtefactError, match=BREAKS):
        append_task(pack, made.task(breaking))
    assert contents(pack.path) == before


def test_a_delta_that_breaks_the_pattern_is_not_applied(tmp_path: Path) -> None:
    breaking = world(breaking=2)
    dense = replace(breaking, params=tuple(replace(param, pattern="") for param in PARAMS))
    extract_delta(dense.build(tmp_path / "dense.pack", tasks=2), "task2", tmp_path / "task2.delta")
    pack = breaking.build(tmp_path / "p.pack", tasks=1)
    before = contents(pack.path)
    with pytest.raises(ArtefactError, match=BREAKS):
        apply_delta(pack, tmp_path / "task2.delta")
    assert contents(pack.path) == before
    extract_delta(world().build(tmp_path / "good.pack"), "task2", tmp_path / "good.delta")
    assert len(apply_delta(pack, tmp_path / "good.delta").tasks) == 2


def test_a_pack_that_breaks_its_promise_gives_no_bank(tmp_path: Path) -> None:
    pack = promising(tmp_path / "p.pack")
    assert obeys(pack.bank(through=1).owners["body.weight"] != 0), "task 1 alone keeps it"
    with pytest.raises(ArtefactError, match=BREAKS):
        pack.bank()
    with pytest.raises(ArtefactError, match=BREAKS):
        next(verify_pack(pack))


def promising(path: Path) -> Pack:
    """A pack made without a pattern, whose pack.json was given one afterwards."""
    replace(world(breaking=2), params=tuple(replace(param, pattern="") for param in PARAMS)).build(path)
    document = json.loads((path / "pack.json").read_text())
    document["packable"][1]["pattern"] = "2:4"
    (path / "pack.json").write_text(json.dumps(document))
    return Pack.open(path)
