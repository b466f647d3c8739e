"""Seeded vandalism: whatever is done to a pack's files, only our own errors come out, in one line."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vandalism import mutated

from packnet_deploy.errors import PackNetError
from packnet_deploy.pack import Pack, apply_delta
from packnet_deploy.pack.delta import DeltaHeader, check_delta
from packnet_deploy.pack.tensorfile import TensorFile


def survives(read: Callable[[], object]) -> bool:
    """Whether reading succeeded; anything but one of our errors, in one line, fails the test."""
    try:
        read()
    except PackNetError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert len(message) < 2000
        message.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
        return False
    return True


def read_everything(path: Path) -> None:
    pack = Pack.open(path)
    repr(pack), pack.input.sha256, pack.manifest.to_bytes()
    for entry in pack.tasks:
        print(entry, pack.header(entry.name))
        pack.load_task(entry.name)
    pack.graph_bytes()


def test_vandalised_pack_json(golden_copy: Path) -> None:
    rng = random.Random(0)
    data = (golden_copy / "pack.json").read_bytes()
    survived = 0
    for _ in range(500):
        (golden_copy / "pack.json").write_bytes(mutated(data, rng))
        survived += survives(lambda: read_everything(golden_copy))
    assert survived < 250


@pytest.mark.parametrize("position", [0, 1, 2])
def test_vandalised_delta_read_without_its_hash(golden_copy: Path, tmp_path: Path, position: int) -> None:
    """As ``apply_delta`` reads a file from outside: nothing vouches for a byte of it."""
    rng = random.Random(position)
    whole = Pack.open(golden_copy)
    entry = whole.tasks[position]
    data = whole.file(entry).read_bytes()
    source = tmp_path / "vandalised.safetensors"
    document = json.loads((golden_copy / "pack.json").read_bytes())
    document["tasks"] = document["tasks"][:position]
    shorter = json.dumps(document)
    header_end = 8 + int.from_bytes(data[:8], "little")
    survived = 0
    for attempt in range(170):
        (golden_copy / "pack.json").write_text(shorter)
        head, body = (mutated(data[8:header_end], rng), data[header_end:]) if attempt % 3 else (data[8:], b"")
        if attempt % 3:  # vandalise inside a header whose length is right, or else the library would see no more of it
            source.write_bytes(len(head).to_bytes(8, "little") + head + body)
        else:
            source.write_bytes(mutated(data, rng))
        if survives(lambda: apply_delta(Pack.open(golden_copy), source)):
            survived += 1
            read_everything(golden_copy)  # what was let in must be readable to the end
    assert survived < 85


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=64))
def test_arbitrary_bytes_are_no_delta(tmp_path: Path, golden: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)

    def read() -> None:
        with TensorFile(tmp_path / "x") as file:
            check_delta(file, DeltaHeader.of(file), (), (), file)

    assert not survives(read)


def test_a_pack_that_was_copied_badly(golden: Path, tmp_path: Path) -> None:
    """Every file in turn missing, empty, a folder, or another of the pack's files."""
    names = [str(path.relative_to(golden)) for path in golden.rglob("*") if path.is_file()]
    for name in names:
        for kind in ("missing", "empty", "folder", *names):
            if kind == name:
                continue
            path = Path(shutil.copytree(golden, tmp_path / "copy.pack"))
            (path / name).unlink()
            if kind == "empty":
                (path / name).touch()
            elif kind == "folder":
                (path / name).mkdir()
            elif kind != "missing":
                shutil.copy(golden / kind, path / name)
            assert not survives(partial(read_everything, path))
            shutil.rmtree(path)
