"""What the C++ programs packnet-dump and packnet-dump-sidecar say about files, as Python's values."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def answers_of(program: Path, paths: Sequence[Path], emulator: Sequence[str] = ()) -> list[dict[str, Any]]:
    """An answer for each path; ``{"refused": line}`` where the reader refuses it.

    Args:
        emulator: the command that runs the program, where it is not of this machine's kind.
    """
    run = subprocess.run([*emulator, program, *paths], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()[-4000:]
    answers: list[dict[str, Any]] = [json.loads(line) for line in run.stdout.decode().rstrip("\n").split("\n")]
    assert len(answers) == len(paths)
    for task in (task for answer in answers for task in answer.get("tasks", ()) if "report" in task):
        task["report"] = json.loads(task["report"])
    return answers
