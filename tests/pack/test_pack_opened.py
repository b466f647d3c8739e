"""A pack that is held open: the same answers, from files that are read once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pack_worlds import GRAPH, equal, make_world

from packnet_deploy.pack import Pack, append_task, chain

WORLD = make_world()


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return WORLD.build(tmp_path / "a.pack")


def test_it_answers_as_the_pack_does(pack: Pack) -> None:
    with pack.opened() as opened:
        assert (opened.path, opened.tasks, opened.input) == (pack.path, pack.tasks, pack.input)
        assert opened.graph_bytes() == GRAPH
        assert opened.capacity() == pack.capacity()
        assert equal(opened.bank().owners, pack.bank().owners)
        assert equal(opened.bank(through=1).owners, pack.bank(through=1).owners)
        for entry in pack.tasks:
            assert opened.header(entry.name) == pack.header(entry.name)
            expected, got = pack.load_task(entry.name), opened.load_task(entry.name)
            assert equal(got.tensors, expected.tensors)
            assert got.classes == expected.classes
            assert opened.probe_logits(entry.name).tobytes() == expected.probe_logits.tobytes()


def test_what_it_hands_out_cannot_change_what_it_keeps(pack: Pack) -> None:
    with pack.opened() as opened:
        for arrays in (opened.bank().values, opened.bank().owners, opened.bank().shared):
            with pytest.raises(ValueError, match="read-only"):
                next(iter(arrays.values()))[:] = 1
        for tensor in opened.load_task("task2").tensors.values():
            tensor[...] = 7
        assert equal(opened.load_task("task2").tensors, pack.load_task("task2").tensors)


def test_it_opens_no_delta_behind_those_asked_for(pack: Pack) -> None:
    last = pack.file(pack.tasks[-1])
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    with pack.opened(["task2", "task1"]) as opened:
        assert opened.bank().tasks == 2
        assert opened.load_task("task2").tensors.keys() >= opened.bank().values.keys()
        for ask in (opened.load_task, opened.header, opened.probe_logits):
            with pytest.raises(ValueError, match="opened for 2 tasks, asked for task 3"):
                ask("task3")
        with pytest.raises(ValueError, match="opened for 2 tasks"), opened.opened():
            pass


def test_whoever_opens_an_opened_pack_gets_the_same_one(pack: Pack) -> None:
    with pack.opened() as opened, opened.opened(["task1"]) as again:
        assert again is opened


def test_adding_a_task_reads_every_older_one_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = WORLD.build(tmp_path / "grows.pack", tasks=2)
    hashed: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    file_sha256, decode_param = chain.file_sha256, chain.decode_param

    def count_hash(path: Path, inside: Path) -> str:
        hashed[path.name] += 1
        return file_sha256(path, inside)

    def count_decode(param: Any, deltas: Any, *outputs: Any) -> None:
        decoded.update(file.path.name for file in deltas)
        decode_param(param, deltas, *outputs)

    monkeypatch.setattr(chain, "file_sha256", count_hash)
    monkeypatch.setattr(chain, "decode_param", count_decode)
    append_task(pack, WORLD.task(3))
    assert hashed == {pack.file(entry).name: 1 for entry in pack.tasks}
    assert decoded == {pack.file(entry).name: len(WORLD.params) for entry in pack.tasks}
