"""Moving one task between packs as a file: it arrives to the byte, or is refused in one line and nothing changes."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from forging import Forger, Tensors, forged
from fuse import Fuse
from pack_worlds import contents, make_world

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack import Pack, apply_delta, extract_delta, growth
from packnet_deploy.pack.delta import check_delta
from packnet_deploy.pack.tensorfile import TensorFile

DELTA = "deltas/0003-flowers.safetensors"


@pytest.fixture
def field(golden: Path, tmp_path: Path) -> Pack:
    """The golden pack as a device in the field has it: without its third task."""
    path = Path(shutil.copytree(golden, tmp_path / "field.pack"))
    lines = (path / "pack.json").read_text().splitlines(keepends=True)
    kept = [line for line in lines if "0003-flowers" not in line]
    (path / "pack.json").write_text("".join(kept).replace('"bytes": 1376},', '"bytes": 1376}'))
    (path / DELTA).unlink()
    return Pack.open(path)


def assert_refused(pack: Pack, source: Path, *words: str) -> str:
    """``source`` is refused with exit code 4 and one line that has the words; no byte of the pack changes."""
    before = contents(pack.path)
    with pytest.raises(ArtefactError) as caught:
        apply_delta(pack, source)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert len(message.splitlines()) == 1
    assert str(source) in message
    for word in words:
        assert word in message
    assert contents(pack.path) == before
    return message


def test_a_task_arrives_to_the_byte(golden: Path, field: Pack, tmp_path: Path) -> None:
    source = tmp_path / "flowers.safetensors"
    extract_delta(Pack.open(golden), "flowers", source)
    assert source.read_bytes() == (golden / DELTA).read_bytes()
    grown = apply_delta(field, source)
    assert grown == Pack.open(field.path)
    assert contents(field.path) == contents(golden)


def test_a_whole_pack_can_be_sent_task_by_task(tmp_path: Path) -> None:
    world = make_world(
        shares=[(0.3,), (0.0, 1.0), (1.0,), (0.5,)], value_dtypes=["float32", "float16"] + ["bfloat16"] * 2
    )
    sender, receiver = world.build(tmp_path / "sender.pack"), world.build(tmp_path / "receiver.pack", tasks=0)
    for entry in sender.tasks:
        extract_delta(sender, entry.name, tmp_path / entry.name)
        receiver = apply_delta(receiver, tmp_path / entry.name)
    assert contents(receiver.path) == contents(sender.path)


# -- a delta for something else ------------------------------------------------------------------------------------


def test_a_wrong_parent_is_refused_with_both_hashes(field: Pack, golden: Path, tmp_path: Path) -> None:
    wrong = forged(golden / DELTA, tmp_path / "x", lambda _, metadata: metadata.update(parent="ab" * 32))
    assert_refused(field, wrong, "parent", "ab" * 32, field.tasks[-1].sha256)


def test_a_delta_of_another_pack_is_refused(field: Pack, tmp_path: Path) -> None:
    other = make_world().build(tmp_path / "other.pack")
    assert_refused(field, other.file(other.tasks[2]), "graph_sha256", other.manifest.graph_sha256)


def test_a_repeated_task_is_refused(golden_copy: Path, field: Pack, golden: Path) -> None:
    assert_refused(Pack.open(golden_copy), golden / DELTA, "'flowers'", "already")
    assert_refused(field, field.file(field.tasks[0]), "'shapes'", "already")


def test_a_skipped_task_is_refused(golden: Path, tmp_path: Path, field: Pack) -> None:
    one = make_world().build(tmp_path / "one.pack", tasks=1)
    three = make_world().build(tmp_path / "three.pack")
    assert_refused(one, three.file(three.tasks[2]), "task index", "'2'", "'3'")


def header(**changes: str) -> Forger:
    return lambda _, metadata: metadata.update(changes)


def own_input(**changes: Any) -> Forger:
    def change(_: Tensors, metadata: dict[str, str]) -> None:
        metadata["input"] = json.dumps(json.loads(metadata["input"]) | changes)

    return change


METADATA: dict[str, tuple[Forger, str]] = {
    "graph": (header(graph_sha256="0" * 64), "graph_sha256"),
    "input": (header(input_sha256="0" * 64), "input_sha256"),
    "index 2": (header(index="2"), "task index"),
    "index 4": (header(index="4"), "task index"),
    "index 0": (header(index="0"), "index '0'"),
    "index 256": (header(index="256"), "index '256'"),
    "index with a zero": (header(index="03"), "index '03'"),
    "index in other digits": (header(index="\uff13"), "index"),
    "index of many digits": (header(index="3" * 9999), "index"),
    "parent missing": (lambda _, metadata: metadata.pop("parent"), "parent"),
    "parent empty": (header(parent=""), "parent"),
    "parent no hash": (header(parent="a\nb"), "sha256"),
    "frozen no hash": (header(frozen_sha256="?"), "sha256"),
    "format": (header(format="packnet-pack"), "not a task delta"),
    "no format": (lambda _, metadata: metadata.pop("format"), "not a task delta"),
    "no metadata": (lambda _, metadata: metadata.clear(), "not a task delta"),
    "version 2": (header(version="2"), "delta version: this packnet-deploy reads 1, got '2'"),
    "task name a path": (header(task="../../evil"), "task name"),
    "task name two lines": (header(task="a\nb"), "task name"),
    "task name taken": (header(task="birds"), "already"),
    "own input not JSON": (header(input="{"), "malformed"),
    "own input no object": (header(input="[]"), "input description is malformed"),
    "own input of another shape": (
        own_input(shape=[3, 17, 20]),
        "input shape: expected [3, 17, 19], the network's, got [3, 17, 20]",
    ),
    "own input without a resize": (own_input(resize=None), "input description is malformed"),
    "own input nobody could follow": (own_input(framing="zoom"), "input framing: expected one of crop, whole, pad"),
    "own input that is the pack's": (
        own_input(mean=[0.5, 0.25, 0.125], framing="crop", fill=0, boxes=False, exif_orientation=True),
        "input: it is the pack's, so it must be left out",
    ),
    "classes not JSON": (header(classes="["), "malformed"),
    "classes nested deeply": (header(classes="[" * 100_000), "malformed"),
    "classes not a list": (header(classes='{"a": 1}'), "classes"),
    "classes empty": (header(classes="[]"), "classes"),
    "classes numbers": (header(classes="[1, 2, 3, 4, 5]"), "class names"),
    "a class of two lines": (header(classes='["a\\nb", "c", "d", "e", "f"]'), "class names"),
    "a class that cannot be encoded": (header(classes='["\\ud800", "c", "d", "e", "f"]'), "lone surrogate"),
    "too few classes": (header(classes='["a", "b"]'), "probe/logits"),
    "report not an object": (header(report="[]"), "report"),
    "a report that cannot be encoded": (header(report='{"note": "\\ud800"}'), "malformed"),
    "report nested deeply": (header(report="[" * 100_000), "malformed"),
}


@pytest.mark.parametrize("case", METADATA)
def test_forged_metadata_is_refused(field: Pack, golden: Path, tmp_path: Path, case: str) -> None:
    change, word = METADATA[case]
    message = assert_refused(field, forged(golden / DELTA, tmp_path / "x", change), word)
    assert len(message) < 1000


# -- tensors that do not fit ---------------------------------------------------------------------------------------

MASK, VALUES = "mask/conv1.weight", "values/conv1.weight"  # 71 still free, 16 taken


def bits(change: Any) -> Forger:
    def edit(tensors: Tensors, _: object) -> None:
        dtype, shape, data = tensors[MASK]
        changed = bytearray(data)
        change(changed)
        tensors[MASK] = (dtype, shape, bytes(changed))

    return edit


def tensor(name: str, dtype: str, shape: list[int], data: bytes) -> Forger:
    return lambda tensors, _: tensors.__setitem__(name, (dtype, shape, data))


def without(name: str) -> Forger:
    return lambda tensors, _: tensors.pop(name)


def flip(byte: int, bit: int) -> Forger:
    return bits(lambda data: data.__setitem__(byte, data[byte] ^ 1 << bit))


def everything(tensors: Tensors, _: object) -> None:
    """A mask of ones for all 71, with as many values: it must be left out, so that equal content has equal bytes."""
    tensors[MASK] = ("U8", [9], b"\xff" * 8 + b"\x7f")
    tensors[VALUES] = ("F32", [71], bytes(4 * 71))


TENSORS: dict[str, tuple[Forger, str]] = {
    "padding bit set": (flip(8, 7), "padding bits"),
    "one weight more marked": (bits(lambda data: data.__setitem__(0, 0xFF)), "marks"),
    "one bit flipped": (flip(0, 0), "marks"),
    "all-zero mask": (bits(lambda data: data.__init__(len(data))), "marks 0 weights, but there are 16 values"),
    "all-ones mask": (everything, "must be left out"),
    "mask missing": (without(MASK), "expected all 71 free weights, got 16"),
    "mask too short": (tensor(MASK, "U8", [8], bytes(8)), "expected uint8 [9]"),
    "mask too long": (tensor(MASK, "U8", [10], bytes(10)), "expected uint8 [9]"),
    "mask of float16": (tensor(MASK, "F16", [9], bytes(18)), "expected uint8 [9]"),
    "mask of two dimensions": (tensor(MASK, "U8", [9, 1], bytes(9)), "expected uint8 [9]"),
    "mask where nothing is free": (tensor("mask/fire.squeeze.weight", "U8", [0], b""), "left out"),
    "values missing": (without(VALUES), f"'{VALUES}' is missing"),
    "values too few": (tensor(VALUES, "F32", [15], bytes(60)), "marks 16 weights, but there are 15 values"),
    "values too many": (tensor(VALUES, "F32", [17], bytes(68)), "marks 16 weights, but there are 17 values"),
    "values of uint8": (tensor(VALUES, "U8", [16], bytes(16)), "expected 1-D float32"),
    "values of two dimensions": (tensor(VALUES, "F32", [4, 4], bytes(64)), "expected 1-D float32"),
    "values where nothing is free": (tensor("values/fire.squeeze.weight", "F32", [1], bytes(4)), "expected all 0"),
    "an unknown tensor": (tensor("extra", "F32", [1], bytes(4)), "unknown tensor 'extra'"),
    "an unknown parameter": (tensor("values/conv9.weight", "F32", [0], b""), "unknown tensor"),
    "an unknown head tensor": (tensor("head/gamma", "F32", [1], bytes(4)), "unknown tensor 'head/gamma'"),
    "shared/ in a later task": (tensor("shared/norm.bias", "F32", [5], bytes(20)), "only task 1 may hold shared/"),
    "own/ of a packable": (tensor("own/conv1.weight", "F32", [1], bytes(4)), "unknown tensor"),
    "own/ of nothing shared": (tensor("own/conv1.bias", "F32", [5], bytes(20)), "no shared/ tensor"),
    "own/ of another shape": (tensor("own/norm.bias", "F32", [4], bytes(16)), "expected float32 [5]"),
    "own/ in float16": (tensor("own/norm.bias", "F16", [5], bytes(10)), "got float16"),
    "head missing": (without("head/weight"), "'head/weight' is missing"),
    "head bias missing": (without("head/bias"), "'head/bias' is missing"),
    "head of other classes": (tensor("head/weight", "F32", [4, 7, 1, 1], bytes(112)), "expected float32 [5, 7, 1, 1]"),
    "head of other features": (tensor("head/weight", "F32", [5, 6, 1, 1], bytes(120)), "expected float32 [5, 7, 1, 1]"),
    "head of a linear layer": (tensor("head/weight", "F32", [5, 7], bytes(140)), "expected float32 [5, 7, 1, 1]"),
    "head in float16": (tensor("head/weight", "F16", [5, 7, 1, 1], bytes(70)), "got float16"),
    "head bias of other classes": (tensor("head/bias", "F32", [4], bytes(16)), "expected float32 [5]"),
    "probe missing": (without("probe/logits"), "'probe/logits' is missing"),
    "probe of other classes": (tensor("probe/logits", "F32", [4, 4], bytes(64)), "expected float32 [4, 5]"),
    "probe of other images": (tensor("probe/logits", "F32", [3, 5], bytes(60)), "expected float32 [4, 5]"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_forged_tensors_are_refused(field: Pack, golden: Path, tmp_path: Path, case: str) -> None:
    change, words = TENSORS[case]
    assert_refused(field, forged(golden / DELTA, tmp_path / "x", change), words)


def test_the_forger_itself_makes_deltas_that_pass(field: Pack, golden: Path, tmp_path: Path) -> None:
    apply_delta(field, forged(golden / DELTA, tmp_path / "x", lambda *_: None))
    assert Pack.open(field.path).load_task("flowers").classes[1] == "snowdrop"


# -- damaged files -------------------------------------------------------------------------------------------------


def test_a_truncated_file_is_refused_wherever_it_ends(field: Pack, golden: Path, tmp_path: Path) -> None:
    data = (golden / DELTA).read_bytes()
    text = int.from_bytes(data[:8], "little")
    ends = {0, 1, 7, 8, 9, 7 + text, 8 + text, 9 + text, len(data) - 1}
    for end in ends | set(random.Random(0).sample(range(len(data)), 60)):
        source = tmp_path / f"{end}.safetensors"
        source.write_bytes(data[:end])
        assert_refused(field, source, "not a whole safetensors file")


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 8, b"more"])
def test_a_file_with_bytes_behind_its_end_is_refused(field: Pack, golden: Path, tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "x").write_bytes((golden / DELTA).read_bytes() + tail)
    assert_refused(field, tmp_path / "x", "not a whole safetensors file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04\x95", b"{}", b"\0" * 4096, b"\xff" * 4096])
def test_what_is_no_safetensors_file_is_refused(field: Pack, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert_refused(field, tmp_path / "x", "not a whole safetensors file")


def test_a_missing_file_and_a_folder_are_refused(field: Pack, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="missing: expected a file, got nothing"):
        apply_delta(field, tmp_path / "missing")
    assert_refused(field, field.path, "not a regular file")


def test_a_flipped_bit_is_refused_or_is_in_data_that_nothing_else_vouches_for(
    field: Pack, golden: Path, tmp_path: Path
) -> None:
    """A delta on its own has no hash of itself: flipped bits of values, of the head, of class names, or two of a
    mask that cancel, give another well-formed delta. ``packnet verify`` finds them by the probe logits, and the
    sender's sha256 does. Whatever is structure must be refused here."""
    data = (golden / DELTA).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    with TensorFile(golden / DELTA) as file:
        masks = {
            entry.offset + byte
            for name, entry in file.entries.items()
            if name[:5] == "mask/"
            for byte in range(entry.size)
        }
        entries = file.entries.values()
        assert max(entry.offset + entry.size * entry.dtype.itemsize for entry in entries) == len(data)
    rng = random.Random(1)
    places = sorted(masks) + rng.sample(range(start), 60) + rng.sample(range(start, len(data)), 30)
    accepted = []
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        source = tmp_path / "flipped"
        source.write_bytes(damaged)
        before = contents(field.path)
        try:
            apply_delta(field, source)
        except ArtefactError:
            assert contents(field.path) == before
        else:
            accepted.append(place)
            (field.path / "pack.json").write_bytes(before["pack.json"])
            for path in field.path.glob("deltas/0003-*"):
                path.unlink()
    assert accepted
    assert not masks.intersection(accepted)
    # in the header, only what is free: class names, frozen_sha256, the input description, the report, the task's name
    marks = {
        name: data.index(f'"{name}"'.encode())
        for name in ("classes", "format", "graph_sha256", "input", "input_sha256", "report", "version")
    }
    for place in (place for place in accepted if place < start):
        assert (
            marks["classes"] < place < marks["format"]
            or marks["format"] + len('"format":"packnet-delta",') <= place < marks["graph_sha256"]
            or marks["input"] < place < marks["input_sha256"]
            or marks["report"] < place < marks["version"]
        )


# -- the way in and out --------------------------------------------------------------------------------------------


def test_a_source_that_changes_while_it_is_copied_is_refused(field: Pack, golden: Path, tmp_path: Path) -> None:
    source = Path(shutil.copy(golden / DELTA, tmp_path / "x"))
    before = contents(field.path)

    def check_then_cut(*arguments: Any) -> Any:
        result = check_delta(*arguments)
        os.truncate(source, 1700)
        return result

    with mock.patch.object(growth, "check_delta", check_then_cut), pytest.raises(ArtefactError, match="not a whole"):
        apply_delta(field, source)
    assert contents(field.path) == before


def test_a_damaged_pack_takes_no_delta(field: Pack, golden: Path) -> None:
    (field.path / "deltas/0001-shapes.safetensors").write_bytes(b"")
    before = contents(field.path)
    with pytest.raises(ArtefactError, match=r"0001-shapes\.safetensors: damaged: size expected "):
        apply_delta(field, golden / DELTA)
    assert contents(field.path) == before


def test_a_full_disk_leaves_nothing_of_an_applied_delta(field: Pack, golden: Path) -> None:
    def no_space() -> None:
        raise OSError("No space left on device")

    before = contents(field.path)
    for units in (0, 1, 500, 1752, 1753, 1754, 1755, 1756, 2000):
        with Fuse(no_space, units).burning(), pytest.raises(OSError, match="No space left"):
            apply_delta(field, golden / DELTA)
        assert contents(field.path) == before
    apply_delta(field, golden / DELTA)
    assert contents(field.path) == contents(golden)


def test_extracting_refuses_an_unknown_task_and_an_existing_file(golden: Path, tmp_path: Path) -> None:
    pack = Pack.open(golden)
    with pytest.raises(UsageError, match=r"no task 'fish'; its tasks: shapes, birds, flowers"):
        extract_delta(pack, "fish", tmp_path / "fish")
    (tmp_path / "birds").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        extract_delta(pack, "birds", tmp_path / "birds")
    assert contents(tmp_path) == {"birds": b"mine"}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_a_damaged_delta_is_not_extracted(golden_copy: Path, tmp_path: Path, damage: Any) -> None:
    damage(golden_copy / DELTA)
    with pytest.raises(ArtefactError, match=r"0003-flowers\.safetensors: (no such file|damaged)"):
        extract_delta(Pack.open(golden_copy), "flowers", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [golden_copy.name]
