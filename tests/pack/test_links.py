"""No links inside a pack: nothing outside it is read, hashed, written or deleted through one."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from packnet_deploy.errors import ArtefactError, PackNetError
from packnet_deploy.pack import Pack, apply_delta, extract_delta
from packnet_deploy.pack.atomic import replacing, staging_folder

FILES = ("pack.json", "graph.onnx", "deltas", "deltas/0001-shapes.safetensors", "deltas/0003-flowers.safetensors")


def linked(pack: Path, name: str, outside: Path) -> Path:
    """Move a part of the pack to ``outside`` and leave a link in its place."""
    shutil.move(pack / name, outside)
    (pack / name).symlink_to(outside)
    return pack


def read_everything(path: Path) -> None:
    pack = Pack.open(path)
    pack.graph_bytes()
    pack.bank()


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_refused_by_name(golden_copy: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match=rf"{name}.*: expected no link"):
        read_everything(linked(golden_copy, name, tmp_path / "outside"))


@pytest.mark.parametrize(
    "use",
    [
        lambda pack, _: Pack.open(pack).header("shapes"),
        lambda pack, _: Pack.open(pack).load_task("shapes"),
        lambda pack, _: Pack.open(pack).capacity(),
        lambda pack, tmp: extract_delta(Pack.open(pack), "shapes", tmp / "out.safetensors"),
    ],
    ids=["header", "load_task", "capacity", "extract"],
)
def test_whatever_reads_a_task_refuses_a_linked_folder(
    golden_copy: Path, tmp_path: Path, use: Callable[[Path, Path], object]
) -> None:
    linked(golden_copy, "deltas", tmp_path / "outside")
    with pytest.raises(ArtefactError, match="expected no link"):
        use(golden_copy, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_delta_is_not_applied_through_a_link(golden_copy: Path, golden: Path, tmp_path: Path) -> None:
    """It wrote and deleted in the folder that ``deltas`` led to."""
    import json

    document = json.loads((golden_copy / "pack.json").read_text())
    document["tasks"] = document["tasks"][:2]
    (golden_copy / "pack.json").write_text(json.dumps(document))
    (golden_copy / "deltas/0003-flowers.safetensors").unlink()
    outside = tmp_path / "outside"
    linked(golden_copy, "deltas", outside)
    (outside / ".tmp-not-ours").write_text("keep")
    before = sorted(outside.iterdir())
    with pytest.raises(ArtefactError, match="expected no link"):
        apply_delta(Pack.open(golden_copy), golden / "deltas/0003-flowers.safetensors")
    assert sorted(outside.iterdir()) == before


def test_the_pack_itself_may_be_reached_over_a_link(golden_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(golden_copy)
    read_everything(tmp_path / "current")


def test_a_planted_temporary_file_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its name could be told."""
    monkeypatch.setattr("packnet_deploy.pack.atomic.token_hex", lambda _: "known")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".tmp-file-known").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(tmp_path / "file") as file:
        file.write(b"theirs")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "file").exists()


def test_names_of_temporary_files_cannot_be_told(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "file") as file:
            names.add(file.name)
    assert len(names) == 3


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "pack.json"
    path.write_text("old")
    path.chmod(0o640)
    with replacing(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    with replacing(tmp_path / "new") as file:
        file.write(b"new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_folders_of_killed_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    dead = tmp_path / ".tmp-model.onnx-0123456789abcdef"
    (dead / "inside").mkdir(parents=True)
    other = tmp_path / ".tmp-other.onnx-0123456789abcdef"
    other.mkdir()
    with staging_folder(target) as living:
        assert not dead.exists()
        with staging_folder(target) as second:
            assert living.is_dir()
            assert second != living
        assert living.is_dir()
        assert not second.exists()
    assert sorted(tmp_path.iterdir()) == [other]


def test_files_of_killed_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    target = tmp_path / "birds.safetensors"
    dead, other = (tmp_path / f".tmp-{name}-0123456789abcdef" for name in (target.name, "other"))
    for leftover in (dead, other):
        leftover.write_bytes(b"half")
    with replacing(target) as living:
        assert not dead.exists()
        with replacing(target) as second:
            second.write(b"second")
        assert Path(living.name).exists()
        assert target.read_bytes() == b"second"
        living.write(b"first")
    assert target.read_bytes() == b"first"
    assert sorted(tmp_path.iterdir()) == sorted([target, other])


def test_a_swept_link_does_not_lead_anywhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    (tmp_path / ".tmp-model.onnx-0123456789abcdef").symlink_to(outside)
    with staging_folder(tmp_path / "model.onnx"):
        pass
    (tmp_path / ".tmp-file-0123456789abcdef").symlink_to(outside / "precious")
    with replacing(tmp_path / "file"):
        pass
    assert (outside / "precious").exists()


def test_a_folder_among_the_leftovers_blocks_no_writer(golden_copy: Path, golden: Path, tmp_path: Path) -> None:
    import json

    document = json.loads((golden_copy / "pack.json").read_text())
    document["tasks"] = document["tasks"][:2]
    (golden_copy / "pack.json").write_text(json.dumps(document))
    (golden_copy / ".tmp-x" / "inside").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, golden_copy / "deltas/.tmp-y")
    try:
        apply_delta(Pack.open(golden_copy), golden / "deltas/0003-flowers.safetensors")
    except PackNetError as error:
        pytest.fail(str(error))
    assert not list(golden_copy.rglob(".tmp-*"))
    assert outside.is_dir()
