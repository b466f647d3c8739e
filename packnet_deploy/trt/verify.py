"""The check after a build on a GPU: every task's probe logits from the engine, held against the pack's own.

Refitting has known defects (a lost Gemm bias, weights left out), and this is where they are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from packnet_deploy.errors import CheckFailed
from packnet_deploy.export.check import expected_logits
from packnet_deploy.export.target import Target
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import probe_batch
from packnet_deploy.runners.comparison import Difference, compare
from packnet_deploy.runners.contract import Float32Array


class Switchable(Protocol):
    """What is asked here: an ``Engine``, or whatever stands in for one."""

    def set_task(self, name: str) -> None: ...
    def infer(self, images: Float32Array) -> Float32Array: ...


def verify_engine(
    engine: Switchable, pack: Pack, tasks: Sequence[str], target: Target, plan: Path, rtol: float | None = None
) -> dict[str, Difference]:
    """Switch to every task, and once more to the first: a switch back must give the same again.

    Args:
        target: what the engine was made for.
        rtol: where logits may differ by another share of their scale than its precision explains.

    Returns:
        How far the engine's logits lie from the pack's, by task.

    Raises:
        CheckFailed: a task's differ by more than that explains; names plan and task.
    """
    images = probe_batch(target.input)
    with pack.opened(tasks) as opened:
        logits = expected_logits(opened, tasks, target)
    rtol = target.precision.tolerance if rtol is None else rtol
    differences: dict[str, Difference] = {}
    for task in (*tasks, tasks[0]):
        engine.set_task(task)
        difference = compare(engine.infer(images), logits[task], rtol)
        if not difference.passes:
            back = " when switched back to" if task in differences else ""
            raise CheckFailed(
                f"{plan}: task '{task}'{back}: the engine gives other logits than the pack, do not use it: "
                f"{difference}; build it with another --switch"
            )
        differences.setdefault(task, difference)
    return differences
