"""pack.json is hostile until proven otherwise: every lie is refused with exit code 4, one line, and little memory."""

from __future__ import annotations

import json
import math
import os
import random
import re
import reprlib
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pack_worlds import SPEC, make_world

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack import Backbone, Manifest, Pack, ParamSpec, TaskEntry

Document = dict[str, Any]
Change = Callable[[Document], Any]


def refused(path: Path, words: str = ".") -> str:
    """Opening is refused in one line that names the pack, before anything large is allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError, match=words) as caught:
            Pack.open(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert str(path) in message
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 600
    return message


def field(*keys: str | int, value: Any) -> Change:
    """Set ``document[keys[0]][keys[1]]…`` to ``value``."""

    def change(document: Document) -> None:
        target: Any = document
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


def missing(*keys: str | int) -> Change:
    def change(document: Document) -> None:
        target: Any = document
        for key in keys[:-1]:
            target = target[key]
        del target[keys[-1]]

    return change


BAD_COUNTS = (-1, 1 << 41, 1 << 64, 10**400, 1.0, 1.5, True, None, "1", [1], float("nan"), float("inf"))
BAD_TEXTS = ("", None, 1, ["a"], "a\nb", "a\0b", "\ud800", "\u2028", "\x1b[31m")
BAD_SHAS = ("", "0" * 63, "0" * 65, "g" * 64, "A" * 64, "0" * 63 + "\n", "０" * 64, None, 0)  # noqa: RUF001
BAD_FILES = (
    "../../etc/passwd",
    "/etc/passwd",
    "deltas/../../x",
    "deltas\\0001-shapes.safetensors",
    "deltas/0001-shapes.safetensors\0",
    "deltas/0001-birds.safetensors",
    "",
    None,
    ["deltas/0001-shapes.safetensors"],
)
BAD_INPUT_SHAPES: tuple[Any, ...] = (
    "333",
    [3, 17],
    [2, 17, 19],
    [3, 0, 19],
    [3, 17, 1 << 15],
    [3, 17.0, 19],
    [3, True, 19],
    {},
    None,
)
BAD_NAMES = ("", "..", "a/b", "a\\b", "C:x", "a b", "-a", ".a", "a\n", "x" * 65, "é", None, 1)


def each(*keys: str | int, values: Iterable[Any]) -> dict[str, Change]:
    """A case for every bad value of one field."""
    return {f"{keys[-1]} {reprlib.repr(value)}": field(*keys, value=value) for value in values}


def as_256_tasks(document: Document) -> None:
    first = document["tasks"][0]
    document["tasks"] = [
        first | {"name": f"t{index}", "index": index, "file": f"deltas/{index:04d}-t{index}.safetensors"}
        for index in range(1, 257)
    ]


def as_2_to_the_41_weights(document: Document) -> None:
    document["packable"] += [{"name": name, "shape": [1 << 40], "dtype": "float32"} for name in "ab"]


NOT_LISTS: tuple[Any, ...] = (None, {}, "", 3, [1], [[]], ["a"])
NOT_OBJECTS: tuple[Any, ...] = (None, [], "", 3)
BAD_NUMBERS = (math.nan, math.inf, 1e39, 10**400, "0.5", True, None)

CASES: dict[str, Change] = {
    **each("format", values=("packnet-delta", "", None, 1)),
    **each("version", values=(0, 2, "1", True, 1.0, None, 10**400)),
    **{f"no {key}": missing(key) for key in ("format", "version", "backbone", "input", "graph", "packable", "tasks")},
    **each("packable", values=NOT_LISTS),
    **each("tasks", values=NOT_LISTS),
    **each("backbone", values=NOT_OBJECTS),
    **each("input", values=NOT_OBJECTS),
    **each("graph", values=NOT_OBJECTS),
    **each("backbone", "arch", values=BAD_TEXTS),
    **each("backbone", "head", values=BAD_TEXTS),
    **each("graph", "sha256", values=BAD_SHAS),
    **each("graph", "file", values=("../graph.onnx", "/graph.onnx", "GRAPH.ONNX", None)),
    **{f"task {case}": change for case, change in each("tasks", 0, "sha256", values=BAD_SHAS).items()},
    **{f"task {case}": change for case, change in each("tasks", 0, "file", values=BAD_FILES).items()},
    **{f"task {case}": change for case, change in each("tasks", 0, "name", values=BAD_NAMES).items()},
    **each("tasks", 0, "classes", values=BAD_COUNTS),
    **each("tasks", 0, "bytes", values=BAD_COUNTS),
    **each("tasks", 1, "index", values=(*BAD_COUNTS, 0, 1, 3)),
    "indices with a gap": missing("tasks", 1),
    "indices that start late": missing("tasks", 0),
    "tasks in another order": lambda document: document["tasks"].reverse(),
    "two tasks of one name": field("tasks", 1, "name", value="shapes"),
    "256 tasks": as_256_tasks,
    "two parameters of one name": field("packable", 1, "name", value="conv1.weight"),
    **{f"parameter {case}": change for case, change in each("packable", 0, "name", values=BAD_TEXTS).items()},
    **each("packable", 0, "dtype", values=("float16", "F32", "", None, 1)),
    **each("packable", 0, "shape", values=([], {}, "5", 5, None, [1] * 9, [[5]], [1 << 40, 1 << 40], [1] * 100_000)),
    **each("packable", 0, "shape", 0, values=(*BAD_COUNTS, 0)),
    "parameters of 2^41 weights in all": as_2_to_the_41_weights,
    **{f"input {case}": change for case, change in each("input", "shape", values=BAD_INPUT_SHAPES).items()},
    **each("input", "resize", values=(0, -1, 1 << 15, 19.0, True, "19", None)),
    **each("input", "mean", values=([], [0], [0] * 4, "000", None, 0.5)),
    **{f"mean {case}": change for case, change in each("input", "mean", 2, values=BAD_NUMBERS).items()},
    **{f"std {case}": change for case, change in each("input", "std", 2, values=(*BAD_NUMBERS, 0, -1, 1e-60)).items()},
    **each("input", "layout", values=("NHWC", "", None)),
}


@pytest.mark.parametrize("case", CASES)
def test_lies_in_pack_json_are_refused(golden_copy: Path, case: str) -> None:
    document = json.loads((golden_copy / "pack.json").read_bytes())
    CASES[case](document)
    (golden_copy / "pack.json").write_text(json.dumps(document))
    refused(golden_copy)


def test_a_newer_version_says_what_to_do(golden_copy: Path) -> None:
    text = (golden_copy / "pack.json").read_text()
    (golden_copy / "pack.json").write_text(text.replace('"version": 1', '"version": 2'))
    refused(golden_copy, r"this packnet-deploy reads 1, got 2; use the release that wrote it, or a newer one")


def test_a_truncated_pack_json_is_refused_wherever_it_ends(golden_copy: Path) -> None:
    data = (golden_copy / "pack.json").read_bytes()
    for end in {0, 1, 2, len(data) - 2, *random.Random(0).sample(range(len(data) - 1), 60)}:
        (golden_copy / "pack.json").write_bytes(data[:end])
        refused(golden_copy, "damaged, not JSON")


@pytest.mark.parametrize(
    "content",
    [b"\0", b"null", b"[]", b"3", b'"a"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{", b"\x89PNG", b"1" * 5000],
    ids=lambda content: repr(content[:9]),
)
def test_what_is_not_a_pack_json_is_refused(golden_copy: Path, content: bytes) -> None:
    (golden_copy / "pack.json").write_bytes(content)
    refused(golden_copy, "damaged")


@pytest.mark.parametrize("more", ['"version":1,', '"extra":NaN,', '"extra":{"a":1,"a":2},'])
def test_json_that_readers_may_take_differently_is_refused(golden_copy: Path, more: str) -> None:
    text = (golden_copy / "pack.json").read_text()
    (golden_copy / "pack.json").write_text(text.replace("{", "{" + more, 1))
    refused(golden_copy, "damaged, not JSON")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_only_utf8_is_read(golden_copy: Path, encoding: str) -> None:
    text = (golden_copy / "pack.json").read_text()
    (golden_copy / "pack.json").write_text(text, encoding=encoding)
    refused(golden_copy, "damaged, not JSON")


def test_a_huge_pack_json_is_not_even_read(golden_copy: Path) -> None:
    os.truncate(golden_copy / "pack.json", 1 << 40)
    refused(golden_copy, "larger than 8,388,608 bytes")


def test_what_is_no_pack_is_refused(tmp_path: Path, golden: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "odd" / "pack.json").mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match="missing: expected a pack, got nothing"):
        Pack.open(tmp_path / "missing")
    refused(tmp_path / "folder", "not a pack")
    refused(golden / "graph.onnx", "not a pack")
    refused(tmp_path / "odd", "not a regular file")


def test_an_unknown_task_lists_the_known_ones(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no task 'cars'; its tasks: shapes, birds, flowers"):
        Pack.open(golden).load_task("cars")
    with pytest.raises(UsageError, match=r"its tasks: none yet"):
        make_world().build(tmp_path / "empty.pack", tasks=0).task("cars")


# -- the files that pack.json names --------------------------------------------------------------------------------


def load_all(path: Path) -> None:
    pack = Pack.open(path)
    pack.graph_bytes()
    for entry in pack.tasks:
        pack.load_task(entry.name)


@pytest.mark.parametrize("name", ["graph.onnx", "deltas/0001-shapes.safetensors", "deltas/0003-flowers.safetensors"])
def test_a_damaged_file_is_named_with_both_hashes(golden_copy: Path, name: str) -> None:
    data = bytearray((golden_copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (golden_copy / name).write_bytes(data)
    with pytest.raises(
        ArtefactError, match=re.escape(name) + r": damaged: sha256 expected [0-9a-f]{64}, got [0-9a-f]{64};"
    ):
        load_all(golden_copy)


@pytest.mark.parametrize("name", ["graph.onnx", "deltas/0001-shapes.safetensors", "deltas/0003-flowers.safetensors"])
def test_a_missing_file_is_named(golden_copy: Path, name: str) -> None:
    (golden_copy / name).unlink()
    with pytest.raises(ArtefactError, match=re.escape(name) + ": no such file; the pack is incomplete"):
        load_all(golden_copy)


def test_a_damaged_delta_stops_later_tasks_only(golden_copy: Path) -> None:
    (golden_copy / "deltas/0002-birds.safetensors").write_bytes(b"")
    pack = Pack.open(golden_copy)
    assert pack.load_task("shapes").classes == ("disc", "square", "triangle")
    assert pack.header("flowers").index == 3
    for name in ("birds", "flowers"):
        with pytest.raises(ArtefactError, match=r"0002-birds\.safetensors: damaged"):
            pack.load_task(name)
    with pytest.raises(ArtefactError, match=r"0002-birds\.safetensors: damaged"):
        pack.header("birds")


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("tasks", 1, "bytes"), 1377, "size expected 1,377 bytes, as pack.json says, got 1,376"),
        (("tasks", 1, "classes"), 3, "expected task 'birds' with 3 classes"),
        (("packable", 0, "shape"), [5, 3, 3, 4], "conv1.weight"),
        (("packable", 0, "shape"), [1 << 39], "conv1.weight: expected uint8 [68719476736]"),
        (("packable", 0, "name"), "other", "'values/other' is missing"),
        (("input", "resize"), 20, "input_sha256"),
        (("input", "mean"), [0.5, 0.25, 0.126], "input_sha256"),
    ],
)
def test_a_pack_json_that_contradicts_its_deltas(golden_copy: Path, keys: Any, value: Any, words: str) -> None:
    document = json.loads((golden_copy / "pack.json").read_bytes())
    field(*keys, value=value)(document)
    (golden_copy / "pack.json").write_text(json.dumps(document))
    pack = Pack.open(golden_copy)
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError, match=re.escape(words)):
            pack.load_task("birds")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_swapped_task_is_noticed(golden_copy: Path) -> None:
    """Two deltas whose hashes are right, in the wrong order: whoever edits pack.json cannot rearrange the chain."""
    document = json.loads((golden_copy / "pack.json").read_bytes())
    birds, flowers = document["tasks"][1:]
    (golden_copy / birds["file"]).write_bytes((golden_copy / flowers["file"]).read_bytes())
    birds.update(sha256=flowers["sha256"], bytes=flowers["bytes"], classes=flowers["classes"])
    document["tasks"] = document["tasks"][:2]
    (golden_copy / "pack.json").write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match="task index"):
        Pack.open(golden_copy).load_task("birds")


def test_too_little_memory_is_the_environments_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = make_world().build(tmp_path / "a.pack", tasks=0)

    def no_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(EnvironmentFault, match=r"'stem\.weight': not enough memory for its 81 weights"):
        pack.bank()


# -- writing -------------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    params = (ParamSpec("ünï/çødé weight", (1, 2, 3)), ParamSpec('"\\', (7,)))
    manifest = Manifest(Backbone("custom", "a.b"), SPEC, "0" * 64, params)
    for index in (1, 2):
        manifest = manifest.with_task(TaskEntry(f"t-{index}.x_", index, 7, f"{index}" * 64, 1 << 33))
        (tmp_path / "pack.json").write_bytes(manifest.to_bytes())
        assert Manifest.read(tmp_path / "pack.json") == manifest
    assert manifest.last_sha256 == "2" * 64
    assert manifest.weights == 13
