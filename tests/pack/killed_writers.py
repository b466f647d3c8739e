"""Run by test_pack_growth.py as a process of its own: kills one writer after another in the middle of append_task.

    python killed_writers.py PACK TARGET

Copies PACK to TARGET/<unit> for every point worth dying at, forks, and lets the child die there by SIGKILL, which
nothing can catch or clean up after.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from fuse import Fuse
from pack_worlds import make_world

from packnet_deploy.pack import Pack, append_task


def main() -> None:
    pack, target = Path(sys.argv[1]), Path(sys.argv[2])
    task = make_world().task(3)
    trial = Path(shutil.copytree(pack, target / "whole"))
    with Fuse(blow=lambda: None).burning() as whole:
        append_task(Pack.open(trial), task)
    for point in whole.points(between=30):
        trial = Path(shutil.copytree(pack, target / str(point)))
        child = os.fork()
        if child == 0:
            with Fuse(lambda: os.kill(os.getpid(), signal.SIGKILL), point).burning():
                append_task(Pack.open(trial), task)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"the writer at unit {point} was not killed")


if __name__ == "__main__":
    main()
