"""The commands that write, each with a folder to run it in and the command that comes after a fault.

A command runs in a fork of this process, which has imported everything: a trial costs what the command does, and a kill
meets the command, not Python's start. What is written has eight pixels a side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_folders import image_folder

from packnet_deploy.cli.app import run
from packnet_deploy.pack import Pack, extract_delta

GOLDEN = Path(__file__).parents[1] / "golden/three_tasks.pack"
TINY = ("--arch", "quickstart", "--weights", "none", "--image-size", "8", "--epochs", "1", "--retrain-epochs", "1")
TRAIN = ("train", "--task", "one", "--data", "images", *TINY, "--device", "cpu", "--workers", "0")
Tree = dict[str, str]  # hash of every file by its path


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        prepare: makes what it needs in an empty folder.
        again: what a user gives after a fault, each in turn until one of them ends well.
        done: beside 0, the exit code by which the command says that all is there already.
        varies: parts of names of files that are not the same at each run, since they hold times or paths.
        share: of all faults, in hundredths: what takes longer gets fewer.
    """

    name: str
    arguments: Sequence[str]
    prepare: Callable[[Path], object]
    again: Sequence[Sequence[str]] = ()
    done: int = 0
    varies: Sequence[str] = ()
    share: int = 10

    @property
    def after(self) -> Sequence[Sequence[str]]:
        return self.again or (self.arguments,)


def _pack(folder: Path) -> None:
    shutil.copytree(GOLDEN, folder / "p.pack")


def _pack_and_delta(folder: Path) -> None:
    """The golden pack without its last task, and that task's delta."""
    _pack(folder)
    pack = Pack.open(folder / "p.pack")
    last = pack.tasks[-1]
    extract_delta(pack, last.name, folder / "last.safetensors")
    pack.file(last).unlink()
    document = json.loads((pack.path / "pack.json").read_text())
    document["tasks"].pop()
    (pack.path / "pack.json").write_text(json.dumps(document))


COMMANDS = (
    Command(
        "delta apply",
        ("delta", "apply", "last.safetensors", "--pack", "p.pack"),
        _pack_and_delta,
        share=40,
    ),
    Command(
        "delta extract",
        ("delta", "extract", "--pack", "p.pack", "--task", "birds", "-o", "birds.safetensors"),
        _pack,
        done=2,  # there is such a file
        share=30,
    ),
    Command("export", ("export", "--pack", "p.pack", "--task", "birds", "-o", "birds.onnx"), _pack),
    Command(
        "export --layout shared",
        ("export", "--pack", "p.pack", "--all-tasks", "--layout", "shared", "-o", "shared"),
        _pack,
        share=8,
    ),
    Command(
        "export --format triton",
        ("export", "--pack", "p.pack", "--task", "birds", "--format", "triton", "-o", "models"),
        _pack,
        varies=("models/birds/",),  # what was there already becomes version 2
        share=7,
    ),
    Command(
        "train",
        TRAIN,
        lambda folder: image_folder(folder / "images", side=8),
        again=(("train", "--resume"), TRAIN),
        done=2,  # the task is in the pack
        varies=("log.csv", "tasks.json"),
        share=5,
    ),
)


def tree(folder: Path) -> Tree:
    """Every file below ``folder``, and every empty folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = ""
    return found


@dataclass(frozen=True)
class Ended:
    """How a command ended: the exit code, or minus the signal; what it said on standard error."""

    code: int
    said: str
    seconds: float


def run_in(folder: Path, arguments: Sequence[str], said: Path, kill_after: float | None = None) -> Ended:
    """Run ``packnet ARGUMENTS`` in a fork, in ``folder``; killed after so many seconds, if it still runs then.

    Args:
        said: a file for what it says on standard error, elsewhere.
    """
    began = time.monotonic()
    child = os.fork()
    if not child:
        _become(folder, arguments, said)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), said.read_text(), time.monotonic() - began)


def _become(folder: Path, arguments: Sequence[str], said: Path) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        errors = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", closefd=False) for fd in (1, 2))  # not those of the tests
        code = run(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
