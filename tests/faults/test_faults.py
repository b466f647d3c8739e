"""Kills at random moments and full disks, against every command that writes: nothing is lost, and nothing stays behind.

A few of each in `make test`; `make test-faults KILLS=300 DISKS=60` does as many as asked for and prints the table that
docs/security.md has. A failure says which seed makes its faults again.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from commands import COMMANDS, Command, Ended, Tree, run_in, tree

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and disks in memory"),
]

KILLS = int(os.environ.get("PACKNET_KILLS", "40"))
DISKS = int(os.environ.get("PACKNET_DISKS", "20"))
SEED = os.environ.get("PACKNET_SEED") or str(time.time_ns())
LARGE = "64m"
PAGE = os.sysconf("SC_PAGE_SIZE")

each = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


@dataclass
class Tally:
    """What faults did: how many there were, how many met the command at work, and what is wrong, in words."""

    faults: int = 0
    met: int = 0
    losses: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = [len(self.losses), len(self.strays), len(self.messages)]
        return f"{self.faults:>6} {self.met:>6} {found[0]:>6} {found[1]:>6} {found[2]:>9}"


@dataclass(frozen=True)
class Known:
    """A command that nothing disturbs: the folder before it and after it, and how long it takes."""

    before: Tree
    after: Tree
    seconds: float


@pytest.fixture(scope="module")
def _imported() -> None:
    import onnxruntime  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    import packnet_deploy.export.api
    import packnet_deploy.training.run
    import packnet_deploy.triton  # noqa: F401

    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    print(f"\n{'':<34}faults    met losses strays messages   (PACKNET_SEED={SEED})")
    for (kind, name), tally in TALLIES.items():
        print(f"{kind:<6}{name:<28}{tally}")


TALLIES: dict[tuple[str, str], Tally] = {}


@pytest.mark.usefixtures("_imported")
@each
def test_killed_at_any_moment(command: Command, tmp_path: Path) -> None:
    known = undisturbed(command, tmp_path / "undisturbed")
    chance, tally = random.Random(f"{SEED} {command.name}"), TALLIES.setdefault(("kill", command.name), Tally())
    wanted = max(1, KILLS * command.share // 100)
    for number in range(4 * wanted):  # some come when the command has ended
        if tally.met == wanted:
            break
        folder = prepared(command, tmp_path / str(number))
        moment = chance.uniform(0, known.seconds)
        ended = run_in(folder, command.arguments, tmp_path / "said", kill_after=moment)
        tally.faults += 1
        tally.met += ended.code < 0
        judge(command, known, folder, f"killed after {moment:.3f} s", tally)
        shutil.rmtree(folder)
    expect_nothing(tally)


@pytest.mark.usefixtures("_imported")
@each
def test_a_full_disk(command: Command, tmp_path: Path) -> None:
    known = undisturbed(command, tmp_path / "undisturbed")
    chance, tally = random.Random(f"{SEED} {command.name}"), TALLIES.setdefault(("full", command.name), Tally())
    for number in range(max(1, DISKS * command.share // 100)):
        with disk(tmp_path / str(number)) as folder:
            prepared(command, folder)
            before = tree(folder)
            room = PAGE * chance.randrange(_pages_written(tmp_path / "undisturbed", known))
            resize(folder, _used(folder) + room)
            ended = run_in(folder, command.arguments, tmp_path / "said")
            tally.faults += 1
            tally.met += ended.code != 0
            if ended.code != 0:
                expect_one_line(ended, f"{room:,} bytes left", tally)
                left = [name for name in tree(folder).keys() - before.keys() if "packnet.train/" not in name]
                tally.strays += [f"{room:,} bytes left: {name}" for name in left]
            resize(folder, LARGE)
            judge(command, known, folder, f"{room:,} bytes left", tally)
    expect_nothing(tally)


def prepared(command: Command, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    command.prepare(folder)
    return folder


def undisturbed(command: Command, folder: Path) -> Known:
    before = tree(prepared(command, folder))
    ended = run_in(folder, command.arguments, folder.with_name("said"))
    assert ended.code == 0, ended.said
    return Known(before, tree(folder), ended.seconds)


def judge(command: Command, known: Known, folder: Path, what: str, tally: Tally) -> None:
    """Hold the folder against what was there and what is to come; then do what a user does, and look again."""
    now = tree(folder)
    for name, was in known.before.items():
        if now.get(name) not in (was, known.after.get(name)):
            tally.losses.append(f"{what}: {name} is neither what it was nor what it becomes")
    said = folder.with_name("said")
    ended = [run_in(folder, arguments, said) for arguments in command.after if not _is_done(command, known, folder)]
    if ended and ended[-1].code not in (0, command.done):
        tally.losses.append(f"{what}: afterwards: {ended[-1].said}")
    if any("Traceback" in one.said for one in ended):
        tally.messages.append(f"{what}: {ended[-1].said}")
    then = tree(folder)
    for name in then.keys() | known.after.keys():
        if any(part in name for part in command.varies):
            continue
        if name not in known.after:
            tally.strays.append(f"{what}: {name}")
        elif then.get(name) != known.after[name]:
            tally.losses.append(f"{what}: {name} is not what it was to be")
    tally.strays += [f"{what}: {name}" for name in then if ".tmp-" in name]


def _is_done(command: Command, known: Known, folder: Path) -> bool:
    """Whether an earlier one of the commands after a fault has done it all."""
    return len(command.after) > 1 and tree(folder).keys() == known.after.keys()


def expect_one_line(ended: Ended, what: str, tally: Tally) -> None:
    line = ended.said.rstrip("\n")
    if ended.code != 3 or "\n" in line or not line.startswith("packnet: "):
        tally.messages.append(f"{what}: exit code {ended.code}: {ended.said}")


def expect_nothing(tally: Tally) -> None:
    wrong = [*tally.losses, *tally.strays, *tally.messages]
    assert not wrong, f"PACKNET_SEED={SEED}: {len(wrong)} things, first: {wrong[:3]}"


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk in memory."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a disk in memory cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(folder: Path, size: str | int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def _used(folder: Path) -> int:
    """Bytes in use, in whole pages as the disk counts them."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _pages_written(folder: Path, known: Known) -> int:
    """How many a disk in memory needs for what the command writes, at least."""
    new = [folder / name for name, is_now in known.after.items() if known.before.get(name) != is_now]
    return sum(-(-path.stat().st_size // PAGE) for path in new)
