"""A pack only grows: no existing byte changes, and whatever goes wrong leaves it as it was, or as it is after."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fuse import Fuse
from pack_worlds import GRAPH, PARAMS, SPEC, World, contents, equal, make_world

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.pack import Backbone, Pack, ParamSpec, append_task, bank_sha256, create_pack, extract_delta
from packnet_deploy.pack.atomic import locked, replacing

WORLD = make_world()
BACKBONE = Backbone("custom", "fc")


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def two(tmp_path: Path, world: World) -> Pack:
    """A pack with two of the world's three tasks."""
    return world.build(tmp_path / "two.pack", tasks=2)


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "pack.json")
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_adding_a_task_writes_one_file_and_replaces_pack_json(two: Pack, world: World) -> None:
    before, before_ids = contents(two.path), identities(two.path)
    grown = append_task(two, world.task(3))
    after, after_ids = contents(two.path), identities(two.path)
    assert after.keys() - before.keys() == {"deltas/0003-task3.safetensors"}
    assert all(after[name] == before[name] for name in before if name != "pack.json")
    assert before_ids.items() <= after_ids.items()
    assert grown == Pack.open(two.path)
    # pack.json itself differs by the new task's line only
    added = set(after["pack.json"].splitlines()) - set(before["pack.json"].splitlines())
    assert len(added) == 2  # task 2's line gains a comma


def test_an_older_snapshot_still_reads_its_tasks(two: Pack, world: World) -> None:
    append_task(two, world.task(3))
    assert len(two.tasks) == 2
    assert equal(two.bank().values, world.dense(2))


def test_earlier_tasks_stay_the_same_to_the_bit(two: Pack, world: World) -> None:
    before = {name: two.load_task(name).tensors for name in ("task1", "task2")}
    grown = append_task(two, world.task(3))
    for name, tensors in before.items():
        assert equal(grown.load_task(name).tensors, tensors)


def test_the_trainers_report_is_kept(two: Pack, world: World) -> None:
    grown = append_task(two, world.task(3, report={"accuracy": 0.97, "note": "é"}))
    assert grown.header("task3").report == {"accuracy": 0.97, "note": "é"}


# -- what append_task refuses --------------------------------------------------------------------------------------


def changed_weight(task: Any) -> Any:
    owner = task.owners["body.weight"]
    weights = {name: array.copy() for name, array in task.weights.items()}
    weights["body.weight"][tuple(np.argwhere(owner == 1)[0])] += np.float32(2**-20)
    return replace(task, weights=weights, frozen_sha256=bank_sha256(PARAMS, weights, task.owners, WORLD.shared, 2))


def changed_shared(task: Any) -> Any:
    shared = {**WORLD.shared, "norm.running_var": np.full(3, 1.5, np.float32)}
    return replace(task, frozen_sha256=bank_sha256(PARAMS, WORLD.weights, task.owners, shared, 2))


def moved_owner(old: int, new: int) -> Any:
    def change(task: Any) -> Any:
        owners = {name: owner.copy() for name, owner in task.owners.items()}
        owners["body.weight"][tuple(np.argwhere(owners["body.weight"] == old)[0])] = new
        return replace(task, owners=owners)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_weight, "changed a frozen weight: frozen_sha256 expected"),
        (changed_shared, "changed a frozen weight: frozen_sha256 expected"),
        (moved_owner(1, 2), "'body.weight': owners of tasks before 'task3' changed"),
        (moved_owner(1, 3), "'body.weight': owners of tasks before 'task3' changed"),
        (moved_owner(2, 0), "'body.weight': owners of tasks before 'task3' changed"),
        (moved_owner(3, 1), "'body.weight': owners of tasks before 'task3' changed"),
    ],
    ids=["weight", "shared", "owner 1 to 2", "owner taken by the new task", "owner freed", "owner backdated"],
)
def test_drift_in_an_earlier_task_is_refused(two: Pack, world: World, change: Any, message: str) -> None:
    before = contents(two.path)
    with pytest.raises(CheckFailed, match=re.escape(message)):
        append_task(two, change(world.task(3)))
    assert contents(two.path) == before


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", ".hidden", "-flag", "x" * 65, "é", "a\n", "a\0"])
def test_unusable_task_names_are_refused(two: Pack, world: World, name: str) -> None:
    before = contents(two.path)
    with pytest.raises(UsageError, match="task name") as caught:
        append_task(two, world.task(3, name=name))
    assert len(str(caught.value).splitlines()) == 1
    assert contents(two.path) == before


def test_a_taken_name_is_refused(two: Pack, world: World) -> None:
    with pytest.raises(UsageError, match="'task1' is in it already"):
        append_task(two, world.task(3, name="task1"))


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": {"weight": ones(3, 7), "bias": ones(2)}}, "head/weight"),
        ({"head": {"weight": ones(2, 8), "bias": ones(2)}}, "head/weight"),
        ({"head": {"weight": ones(2, 7), "bias": ones(3)}}, "head/bias"),
        ({"head": {"weight": ones(2, 7)}}, "head/bias"),
        ({"head": {"bias": ones(2)}}, "head/weight"),
        ({"probe_logits": ones(4, 3)}, "probe/logits"),
        ({"probe_logits": ones(3, 2)}, "probe/logits"),
        ({"shared": {"stem.bias": ones(3)}}, "only task 1 may hold shared/"),
        ({"own": {"stem.bias": ones(4)}}, "own/stem.bias"),
        ({"own": {"unknown": ones(3)}}, "own/unknown"),
        ({"own": {"body.weight": ones(5, 13)}}, "own/body.weight"),
        ({"classes": ()}, "classes"),
        ({"classes": ("a", "b\nc")}, "class names"),
    ],
)
def test_what_no_reader_would_accept_is_not_written(two: Pack, world: World, changes: Any, message: str) -> None:
    before = contents(two.path)
    with pytest.raises(ArtefactError, match=message):
        append_task(two, world.task(3, **changes))
    assert contents(two.path) == before


def test_values_that_their_dtype_cannot_hold_are_refused(two: Pack, world: World) -> None:
    world.weights["body.weight"][world.owners["body.weight"] == 3] = 1.0009765625  # 1 + 2**-10: no bfloat16
    before = contents(two.path)
    with pytest.raises(ValueError, match=r"'body\.weight': its values are not bfloat16 numbers"):
        append_task(two, world.task(3, value_dtype="bfloat16"))
    assert contents(two.path) == before
    append_task(two, world.task(3, value_dtype="float16"))


def test_wrong_shapes_are_refused(two: Pack, world: World) -> None:
    weights = {**world.weights, "one.weight": np.zeros(2, np.float32)}
    before = contents(two.path)
    with pytest.raises(ValueError, match=r"parameter 'one\.weight': expected shape"):
        append_task(two, world.task(3, weights=weights))
    assert contents(two.path) == before


# -- one writer at a time ------------------------------------------------------------------------------------------


def test_a_stale_snapshot_cannot_grow_the_pack(two: Pack, world: World) -> None:
    append_task(two, world.task(3))
    before = contents(two.path)
    with pytest.raises(EnvironmentFault, match="open it again and retry"):
        append_task(two, world.task(3, name="another"))
    assert contents(two.path) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_a_second_writer_is_refused(two: Pack, world: World) -> None:
    before = contents(two.path)
    with locked(two.path), pytest.raises(EnvironmentFault, match="another process is writing"):
        append_task(two, world.task(3))
    assert contents(two.path) == before
    append_task(two, world.task(3))  # the lock is free again


def _append(path: Path, start: Any, answers: Any) -> None:
    pack = Pack.open(path)
    start.wait()
    try:
        append_task(pack, WORLD.task(3, name=f"by-{os.getpid()}"))
        answers.put("done")
    except EnvironmentFault as error:
        answers.put(str(error))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_of_racing_writers_one_wins(two: Pack) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.Queue()
    writers = [context.Process(target=_append, args=(two.path, start, answers)) for _ in range(3)]
    for writer in writers:
        writer.start()
    results = [answers.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    assert results.count("done") == 1
    assert all("another process" in answer for answer in results if answer != "done")
    grown = Pack.open(two.path)
    assert len(grown.tasks) == 3
    assert equal(grown.bank().owners, WORLD.owners)
    assert len(contents(two.path)) == 5


# -- full disks and power cuts -------------------------------------------------------------------------------------


def test_bytes_reach_the_disk_before_the_name_that_promises_them(
    two: Pack, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, rename, events = os.fsync, os.replace, []

    def recorded_fsync(handle: int) -> None:
        events.append(("sync", os.fstat(handle).st_ino))
        fsync(handle)

    def recorded_rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        events.append(("rename", os.stat(old, dir_fd=src_dir_fd).st_ino))
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_rename)
    append_task(two, world.task(3))
    expected = []
    for path in (two.path / "deltas/0003-task3.safetensors", two.path / "pack.json"):
        file, folder = path.stat().st_ino, path.parent.stat().st_ino
        expected += [("sync", file), ("rename", file), *([("sync", folder)] if os.name != "nt" else [])]
    assert events == expected


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, two: Pack, world: World) -> None:
    before = contents(two.path)
    with Fuse(blow=no_space).burning() as whole:
        append_task(Pack.open(Path(shutil.copytree(two.path, tmp_path / "whole.pack"))), world.task(3))
    after = contents(tmp_path / "whole.pack")
    last_rename = whole.landmarks[-2]
    for point in whole.points(between=40):
        with pytest.raises(OSError, match="No space left"), Fuse(no_space, point).burning():
            append_task(two, world.task(3))
        if point > last_rename:  # renamed, and then the folder's sync failed: the task is in the pack
            assert contents(two.path) == after
            shutil.rmtree(two.path)
            world.build(two.path, tasks=2)
        else:
            assert contents(two.path) == before
    append_task(two, world.task(3))
    assert contents(two.path) == after


def test_what_the_disk_has_no_room_for_is_refused_by_name_and_size(
    tmp_path: Path, two: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = tmp_path / "two.delta"
    extract_delta(two, two.tasks[1].name, delta)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    says = (
        rf"again\.delta: expected room for {two.tasks[1].bytes:,} bytes on the disk of folder {tmp_path}, got 100; free"
    )
    with pytest.raises(EnvironmentFault, match=says):
        extract_delta(two, two.tasks[1].name, tmp_path / "again.delta")
    assert not list(tmp_path.glob("*again*"))


def test_a_disk_that_fills_while_writing_is_told_of_by_the_files_name(tmp_path: Path) -> None:
    for path in (tmp_path / "a.json", tmp_path / ".tmp-b.onnx-0123456789abcdef" / "b.onnx"):
        path.parent.mkdir(exist_ok=True)
        with pytest.raises(OSError, match="No space left") as full, replacing(path):
            no_space()
        assert full.value.filename == str(tmp_path / path.name), "where it was to be in the end"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_writer_leaves_the_pack_as_it_was_or_as_it_is_after(tmp_path: Path, two: Pack, world: World) -> None:
    script = Path(__file__).with_name("killed_writers.py")
    run = subprocess.run([sys.executable, script, two.path, tmp_path / "killed"], check=False)
    assert run.returncode == 0
    after = contents(tmp_path / "killed" / "whole")
    trials = sorted((tmp_path / "killed").iterdir())
    lengths, leftovers = set(), 0
    for trial in trials:
        pack = Pack.open(trial)
        lengths.add(len(pack.tasks))
        assert equal(pack.bank().values, world.dense(len(pack.tasks)))
        leftovers += any(path.name.startswith(".tmp-") for path in trial.rglob("*"))
        if len(pack.tasks) == 2:
            append_task(pack, world.task(3))
        assert contents(trial) == after
    assert lengths == {2, 3}
    assert leftovers > 20
    assert len(trials) > 35


# -- create_pack ---------------------------------------------------------------------------------------------------


def test_a_pack_may_be_made_with_its_first_task(tmp_path: Path, world: World) -> None:
    made = create_pack(tmp_path / "a.pack", BACKBONE, SPEC, GRAPH, PARAMS, world.task(1))
    assert contents(made.path) == contents(world.build(tmp_path / "b.pack", tasks=1).path)
    assert made.graph_bytes() == GRAPH


def test_nothing_is_made_over_what_exists(tmp_path: Path, world: World) -> None:
    (tmp_path / "a.pack").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        world.build(tmp_path / "a.pack")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pack"]


def test_a_refused_first_task_makes_no_pack(tmp_path: Path, world: World) -> None:
    with pytest.raises(CheckFailed):
        create_pack(tmp_path / "a.pack", BACKBONE, SPEC, GRAPH, PARAMS, world.task(1, frozen_sha256="0" * 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backbone", "packable"),
    [
        (Backbone("", "fc"), PARAMS),
        (BACKBONE, (*PARAMS, PARAMS[0])),
        (BACKBONE, (ParamSpec("empty", (0, 3)),)),
        (BACKBONE, (ParamSpec("scalar", ()),)),
        (BACKBONE, (ParamSpec("a\nb", (1,)),)),
    ],
)
def test_a_pack_that_no_reader_would_accept_is_not_made(tmp_path: Path, backbone: Backbone, packable: Any) -> None:
    with pytest.raises(ArtefactError):
        create_pack(tmp_path / "a.pack", backbone, SPEC, GRAPH, packable)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_creators_leftover_is_no_obstacle(tmp_path: Path, world: World) -> None:
    (tmp_path / ".tmp-a.pack-0123456789abcdef" / "deltas").mkdir(parents=True)
    world.build(tmp_path / "a.pack")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pack"]


def test_a_full_disk_makes_no_pack(tmp_path: Path, world: World) -> None:
    with Fuse(blow=no_space).burning() as whole:
        create_pack(tmp_path / "whole.pack", BACKBONE, SPEC, GRAPH, PARAMS, world.task(1))
    for point in whole.points(between=10):
        if point < whole.landmarks[-1]:  # the last sync, of the parent folder, comes after the rename
            with pytest.raises(OSError, match="No space left"), Fuse(no_space, point).burning():
                create_pack(tmp_path / "a.pack", BACKBONE, SPEC, GRAPH, PARAMS, world.task(1))
            assert list(tmp_path.iterdir()) == [tmp_path / "whole.pack"]
