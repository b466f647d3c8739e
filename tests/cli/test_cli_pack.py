"""Commands that read and grow packs, on the golden pack: what they show, write and refuse."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packnet_deploy.pack import Pack

Packnet = Callable[..., Any]
TASKS = ("shapes", "birds", "flowers")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.startswith("packnet: ")


def test_inspect_shows_tasks_and_owners(packnet: Packnet, here: Path, golden_expected: dict[str, Any]) -> None:
    about = json.loads(packnet("inspect", "golden.pack", "--json").out)
    assert about["kind"] == "pack"
    for index, name in enumerate(TASKS):
        owned = {layer["name"]: layer["owned"][index] for layer in about["layers"]}
        assert owned == golden_expected["tasks"][name]["owned"]
        assert (
            about["tasks"][index]["bytes"]
            == (here / "golden.pack" / Pack.open("golden.pack").tasks[index].file).stat().st_size
        )
    assert about["free"] == sum(layer["free"] for layer in about["layers"])
    shown = packnet("inspect", "golden.pack").out
    assert all(name in shown for name in (*TASKS, "conv1.weight", about["tasks"][0]["sha256"][:12]))


def test_inspect_shows_how_images_become_the_input(packnet: Packnet, here: Path) -> None:
    usual = "turned upright by EXIF, shorter side to 19, the middle 17x19 cut out, normalised by mean 0.5 0.25 0.125"
    own = "cut to their bounding boxes, fitted into 17x19, the rest filled with 128, normalised by mean 0.5 0.5 0.5"
    lines = packnet("inspect", "golden.pack").out.splitlines()
    assert f"images of shapes, birds: {usual}, std 0.25 0.5 0.75" in lines
    assert f"images of flowers: {own}, std 0.25 0.5 0.75" in lines
    about = json.loads(packnet("inspect", "golden.pack", "--json").out)
    assert [task["input"]["framing"] for task in about["tasks"]] == ["crop", "crop", "pad"]
    deltas = here / "golden.pack" / "deltas"
    assert f"images       {own}" in packnet("inspect", deltas / "0003-flowers.safetensors").out
    assert "images       as the pack says" in packnet("inspect", deltas / "0002-birds.safetensors").out


def test_inspect_names_files_that_a_crash_left(packnet: Packnet, here: Path) -> None:
    (here / "golden.pack/deltas/0004-x.safetensors").write_bytes(b"half")
    assert "deltas/0004-x.safetensors" in packnet("inspect", "golden.pack").out


def test_inspect_tells_kinds_apart_by_content(packnet: Packnet, here: Path) -> None:
    packnet("export", "--task", "birds", "-o", "a.bin")
    packnet("delta", "extract", "--task", "birds", "-o", "b.bin")
    (here / "c.bin").write_bytes(b"vtrt" + bytes(60))  # as TensorRT-RTX 1.7 writes it
    kinds = {name: json.loads(packnet("inspect", name, "--json").out)["kind"] for name in ("a.bin", "b.bin", "c.bin")}
    assert kinds == {"a.bin": "onnx", "b.bin": "delta", "c.bin": "plan"}
    for name in kinds:
        assert name in packnet("inspect", name).out


@pytest.mark.parametrize("name", ["x", "x.json", "x.onnx", "x.textproto"])  # a name decides nothing
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", bytes(40), b"\x08\x01", b"\x05\0\0\0\0\0\0\0{}   ", b'{"format": "packnet-pack"}']
)
def test_inspect_refuses_anything_else(packnet: Packnet, here: Path, content: bytes, name: str) -> None:
    (here / name).write_bytes(content)
    result = packnet("inspect", name)
    assert result.code == 4
    assert one_line(result.err)
    assert name in result.err
    assert len(result.err) < 250, "in a few words, not with the parser's list of fields"


def test_inspect_refuses_what_is_no_file(packnet: Packnet, here: Path) -> None:
    assert packnet("inspect", "nowhere").code == 3
    (here / "empty").mkdir()
    assert packnet("inspect", "empty").code == 4
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
        result = packnet("inspect", "pipe")  # opening it would wait for a writer
        assert result.code == 4
        assert "not a regular file" in result.err


def test_paths_are_printed_as_they_are(packnet: Packnet, here: Path) -> None:
    (here / "golden.pack").rename("old[bold]:cat:.pack")
    for arguments in (("inspect", "old[bold]:cat:.pack"), ("verify",)):
        assert "old[bold]:cat:.pack" in packnet(*arguments).out, "rich would take these for markup and an emoji"
    assert "[red].onnx" in packnet("export", "--task", "birds", "-o", "[red].onnx").out


def test_verify_holds_for_the_golden_pack(packnet: Packnet, here: Path) -> None:
    result = packnet("verify")
    assert result.code == 0
    assert result.out.count(" ok") == len(TASKS)
    rows = json.loads(packnet("verify", "--json").out)["tasks"]
    assert [row["task"] for row in rows if row["passes"] and row["frozen_weights_unchanged"]] == list(TASKS)


@pytest.mark.parametrize("name", ["pack.json", "graph.onnx", "deltas/0002-birds.safetensors"])
def test_verify_names_a_damaged_file(packnet: Packnet, here: Path, name: str) -> None:
    file = here / "golden.pack" / name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    result = packnet("verify")
    assert result.code == 4
    assert one_line(result.err)
    assert name in result.err


def test_verify_fails_when_logits_are_others(packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import packnet_deploy.runners.verify as module
    from packnet_deploy.runners.comparison import Difference

    monkeypatch.setattr(module, "compare", lambda *_: Difference(0.5, 1.0))
    result = packnet("verify")
    assert result.code == 1
    assert one_line(result.err)
    assert "FAILED" in result.out


def with_another_value(pack: Path, task: int) -> None:
    """Change one weight of a task, then make every hash agree again, as anybody could who knows the format."""
    deltas = sorted((pack / "deltas").iterdir())
    recorded = [file_hash(file) for file in deltas]
    for index, (file, old) in enumerate(zip(deltas, recorded, strict=True), start=1):
        content = bytearray(file.read_bytes())
        if index == task:
            start = 8 + int.from_bytes(content[:8], "little")
            begin = start + json.loads(content[8:start])["values/conv1.weight"]["data_offsets"][0]
            content[begin : begin + 4] = struct.pack("<f", 1.5)
        file.write_bytes(content)
        for later in (pack / "pack.json", *deltas[index:]):
            later.write_bytes(later.read_bytes().replace(old.encode(), file_hash(file).encode()))


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("task", "failed", "says"),
    [
        (1, ["shapes", "birds", "flowers"], "birds: the weights of earlier tasks are not those it was trained on"),
        (3, ["flowers"], "flowers: "),
    ],
)
def test_verify_finds_weights_changed_under_right_hashes(
    packnet: Packnet, here: Path, task: int, failed: list[str], says: str
) -> None:
    with_another_value(here / "golden.pack", task)
    result = packnet("verify", "--json")
    assert result.code == 1, result.err
    assert one_line(result.err)
    assert says in result.err
    assert [row["task"] for row in json.loads(result.out)["tasks"] if not row["passes"]] == failed


def test_export_one_task_and_all(packnet: Packnet, here: Path) -> None:
    assert packnet("export", "--task", "birds").code == 0
    assert packnet("export", "--all-tasks", "-o", "out").code == 0
    assert sorted(p.name for p in (here / "out").iterdir()) == sorted(f"{name}.onnx" for name in TASKS)
    assert (here / "out/birds.onnx").read_bytes() == (here / "birds.onnx").read_bytes()
    sparse = packnet("export", "--task", "birds", "--layout", "sparse", "-o", "s.onnx")
    assert sparse.code == 0
    assert "sparse" in sparse.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--task", "cars"), 2, "its tasks: shapes, birds, flowers"),
        ((), 2, "--task NAME or --all-tasks"),
        (("--task", "birds", "--all-tasks"), 2, "--task NAME or --all-tasks"),
        (("--task", "birds", "--layout", "round"), 2, "dense, sparse"),
        (("--task", "birds", "--pack", "no.pack"), 3, "no.pack"),
        (("--task", "birds", "-o", "no/such/folder/x.onnx"), 3, "no/such/folder"),
        (("--task", "birds", "-o", "golden.pack"), 2, "golden.pack"),
        (("--task", "birds", "-o", "golden.pack/pack.json/x.onnx"), 3, "golden.pack/pack.json: no such folder"),
        (("--all-tasks", "-o", "golden.pack/pack.json"), 3, "golden.pack/pack.json"),
        (("--bogus",), 2, "--bogus"),
    ],
)
def test_export_refusals(packnet: Packnet, here: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    before = snapshot(here)
    result = packnet("export", *arguments)
    assert result.code == code
    assert one_line(result.err)
    assert says in result.err
    assert snapshot(here) == before


def test_a_failed_check_leaves_no_file(packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import packnet_deploy.export.check as module
    from packnet_deploy.runners.comparison import Difference

    (here / "birds.onnx").write_bytes(b"the old one")
    before = snapshot(here)
    monkeypatch.setattr(module, "compare", lambda *arguments: Difference(0.5, 1.0))
    result = packnet("export", "--task", "birds", "--force")
    assert result.code == 1
    assert one_line(result.err)
    assert snapshot(here) == before


def test_a_full_disk_is_exit_3_and_leaves_nothing(
    packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device", "birds.onnx")

    monkeypatch.setattr(os, "fsync", full)
    before = snapshot(here)
    result = packnet("export", "--task", "birds")
    assert result.code == 3
    assert "No space left" in result.err
    assert snapshot(here) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_may_not_be_written_is_exit_3(packnet: Packnet, here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    result = packnet("export", "--task", "birds", "-o", "locked/birds.onnx")
    assert result.code == 3
    assert one_line(result.err)
    assert "Permission denied" in result.err


def test_which_pack_is_meant(packnet: Packnet, here: Path) -> None:
    shutil.copytree("golden.pack", "other.pack")
    result = packnet("verify")
    assert result.code == 2
    assert "golden.pack, other.pack" in result.err
    assert packnet("verify", "--pack", "other.pack").code == 0
    shutil.rmtree("golden.pack")
    assert packnet("verify").code == 0
    shutil.rmtree("other.pack")
    result = packnet("verify")
    assert result.code == 2
    assert "no *.pack" in result.err


def shorter(source: Path, target: Path, tasks: int) -> Path:
    """A copy of a pack as it was after its first tasks."""
    shutil.copytree(source, target)
    lines = (target / "pack.json").read_text().splitlines()
    kept = [line for line in lines if not any(f'"index": {n},' in line for n in range(tasks + 1, 9))]
    text = "\n".join(kept).replace("},\n  ]", "}\n  ]") + "\n"
    (target / "pack.json").write_text(text)
    for file in sorted((target / "deltas").iterdir())[tasks:]:
        file.unlink()
    return target


def test_a_delta_moves_between_packs_byte_for_byte(packnet: Packnet, here: Path) -> None:
    field = shorter(here / "golden.pack", here / "field.pack", tasks=2)
    extracted = packnet("delta", "extract", "--pack", "golden.pack", "--task", "flowers", "-o", "f.delta")
    assert extracted.code == 0
    digest = extracted.out.split()[-1]
    applied = packnet("delta", "apply", "f.delta", "--pack", field, "--sha256", digest)
    assert applied.code == 0, applied.err
    assert snapshot(field) == snapshot(here / "golden.pack")


def test_deltas_that_do_not_fit_are_refused_and_nothing_changes(packnet: Packnet, here: Path) -> None:
    for task in TASKS:
        packnet("delta", "extract", "--pack", "golden.pack", "--task", task, "-o", f"{task}.delta")
    field = shorter(here / "golden.pack", here / "field.pack", tasks=1)
    whole = (here / "birds.delta").read_bytes()
    (here / "short.delta").write_bytes(whole[:-1])
    (here / "none.delta").write_bytes(b"")
    other = Pack.open("golden.pack").tasks
    before = snapshot(field)
    for name, says in (
        ("flowers", "task index"),
        ("short", "not a whole safetensors"),
        ("none", "not a whole safetensors"),
    ):
        result = packnet("delta", "apply", f"{name}.delta", "--pack", field)
        assert result.code == 4, name
        assert one_line(result.err)
        assert says in result.err
        assert snapshot(field) == before
    result = packnet("delta", "apply", "birds.delta", "--pack", field, "--sha256", "0" * 64)
    assert result.code == 4
    assert other[1].sha256 in result.err
    assert snapshot(field) == before


def test_a_delta_that_is_there_already_is_no_error(packnet: Packnet, here: Path) -> None:
    """A device that asks twice has what it asked for; another file for the same task is refused as ever."""
    packnet("delta", "extract", "--task", "birds", "-o", "birds.delta")
    before = snapshot(here / "golden.pack")
    result = packnet("delta", "apply", "birds.delta")
    assert result.code == 0, result.err
    said, coming = result.out.splitlines()
    assert said == "golden.pack: task 'birds' is there already, as number 2; nothing changed"
    assert coming == "next: packnet predict birds IMAGE"
    (here / "birds.delta").write_bytes((here / "birds.delta").read_bytes().replace(b"golden", b"silver"))
    assert packnet("delta", "apply", "birds.delta").code == 4
    assert snapshot(here / "golden.pack") == before


def test_an_export_takes_the_place_of_its_own_kind_alone(packnet: Packnet, here: Path) -> None:
    export = ("export", "--task", "birds", "-o", "birds.onnx")
    assert packnet(*export).code == 0
    assert packnet(*export).code == 0, "what packnet export wrote it may replace"
    (here / "birds.onnx").write_text("my notes")
    for layout in ((), ("--layout", "sparse")):
        refused = packnet(*export, *layout)
        assert refused.code == 2
        assert "--force replaces it" in refused.err
        assert (here / "birds.onnx").read_text() == "my notes"
    assert packnet(*export, "--force").code == 0
    assert packnet("inspect", "birds.onnx").code == 0


def test_json_of_exports_and_deltas(packnet: Packnet, here: Path) -> None:
    (report,) = json.loads(packnet("export", "--task", "birds", "--json").out)["exports"]
    assert (report["tasks"], report["files"], report["layout"]) == (["birds"], ["birds.onnx"], "dense")
    assert report["bytes"] == (here / "birds.onnx").stat().st_size
    assert 0 <= report["differences"]["birds"]["max_difference"] <= report["differences"]["birds"]["allowed"]
    field = shorter(here / "golden.pack", here / "field.pack", tasks=2)
    extracted = json.loads(packnet("delta", "extract", "--pack", "golden.pack", "--task", "flowers", "--json").out)
    entry = Pack.open("golden.pack").task("flowers")
    assert (extracted["task"], extracted["sha256"], extracted["bytes"]) == ("flowers", entry.sha256, entry.bytes)
    for added in (True, False):
        applied = json.loads(packnet("delta", "apply", extracted["file"], "--pack", field, "--json").out)
        assert (applied["added"], applied["index"], applied["sha256"]) == (added, 3, entry.sha256)


def test_layers_of_the_same_shares_stand_together() -> None:
    from packnet_deploy.cli import inspect

    def layer(name: str, owned: int) -> dict[str, object]:
        return {"name": name, "pattern": None, "size": 1000, "room": 1000, "owned": [owned], "free": 1000 - owned}

    layers = [layer("a", 254), layer("b", 256), layer("c", 400), layer("d", 254)]  # a and b round to 25 and 26 %
    assert [(name, len(group)) for name, group in inspect._alike(layers, apart=False)] == [
        ("a … b (2)", 2),
        ("c", 1),
        ("d", 1),
    ]
    assert [name for name, _ in inspect._alike(layers, apart=True)] == ["a", "b", "c", "d"]


def test_a_wrong_parent_is_refused_with_both_hashes(packnet: Packnet, here: Path) -> None:
    field = shorter(here / "golden.pack", here / "field.pack", tasks=1)
    first = field / "deltas/0001-shapes.safetensors"
    old = Pack.open(field).tasks[0].sha256
    first.write_bytes(first.read_bytes().replace(b"golden", b"silver"))  # its report: another file, as whole
    new = hashlib.sha256(first.read_bytes()).hexdigest()
    assert new != old
    (field / "pack.json").write_text((field / "pack.json").read_text().replace(old, new))
    packnet("delta", "extract", "--pack", "golden.pack", "--task", "birds", "-o", "birds.delta")
    result = packnet("delta", "apply", "birds.delta", "--pack", field)
    assert result.code == 4
    assert one_line(result.err)
    assert old in result.err
    assert new in result.err


def test_extract_refuses_to_overwrite(packnet: Packnet, here: Path) -> None:
    (here / "x").write_text("mine")
    assert packnet("delta", "extract", "--task", "birds", "-o", "x").code == 2
    assert (here / "x").read_text() == "mine"


def test_bench_measures_and_writes_csv_and_json(packnet: Packnet, here: Path) -> None:
    arguments = ("--seconds", 0.02, "--batch-size", 1, "--batch-size", 2, "--threads", 1)
    result = packnet("bench", "--task", "birds", *arguments, "--json", "--csv", "b.csv")
    assert result.code == 0, result.err
    assert {row["way"] for row in json.loads(result.out)["measurements"]} >= {"separate"}
    assert (here / "b.csv").read_text().count("birds") >= 2
    measured = packnet("bench", "--task", "birds", *arguments, "--csv", "no/such/b.csv")
    assert measured.code == 3
    assert one_line(measured.err)
    assert measured.out == "", "said before anything is measured"
    packnet("export", "--all-tasks")
    table = packnet("bench", "birds.onnx", "flowers.onnx", *arguments)
    assert table.code == 0
    assert "together" in table.out
    assert packnet("bench", "birds.onnx", "--task", "birds").code == 2
    assert packnet("bench", "nothing.onnx").code == 3
