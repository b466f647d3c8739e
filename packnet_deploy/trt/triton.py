"""Plans of one task as models of a Triton repository; its TensorRT backend runs them as they are.

Triton cannot refit an engine, nor give it weights as inputs of its own: a task needs a plan with its weights in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.export.triton import config_text, new_version
from packnet_deploy.export.write import write_buffers
from packnet_deploy.pack.directory import Pack
from packnet_deploy.trt.check import read_plan
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar

PLAN_FILE = "model.plan"
TRITON_PLANS = "tensorrt"  # the flavour; Triton has no backend for the other


@dataclass(frozen=True)
class TritonPlan:
    """A plan in its place.

    Attributes:
        tensorrt: the version that built it, which the server must have.
        compute_capabilities: of the GPUs that it runs on.
    """

    task: str
    file: Path
    bytes: int
    tensorrt: str
    compute_capabilities: tuple[str, ...]


def export_triton_plan(plan: Path, pack: Pack, repository: Path) -> TritonPlan:
    """Write a plan as the next version of its task's model in ``repository``; nothing is run.

    Args:
        plan: with switch ``none``, and its sidecar beside it.
        pack: it was built from, or grown from that: it has the names of the classes.

    Raises:
        UsageError: a plan that Triton cannot serve, or ``repository`` is a file.
        ArtefactError: plan, sidecar and pack do not fit together, or the model's folder holds something else.
        EnvironmentFault: the folder above the repository does not exist.
    """
    sidecar = read_sidecar(plan)
    _expect_servable(plan, sidecar)
    task = sidecar.tasks[0]
    got = {entry.name: entry.sha256 for entry in pack.tasks}.get(task.name)
    if got != task.sha256:  # the delta's hash stands for graph, input and all tasks before it
        raise ArtefactError(
            f"{plan}: task '{task.name}': expected the pack with sha256 {task.sha256} for it, got "
            f"{got or 'none'} in {pack.path}; give the pack it was built from, or build the plan again"
        )
    content = read_plan(plan, sidecar)
    config = config_text(
        task.name,
        sidecar.input.shape,
        sidecar.classes,
        None,
        runs='platform: "tensorrt_plan"',
        most=sidecar.batch.most,
    )
    with new_version(repository, task.name, config, pack.header(task.name).classes) as (staged, version):
        write_buffers(staged / PLAN_FILE, [content])
    return TritonPlan(task.name, version / PLAN_FILE, len(content), sidecar.tensorrt, sidecar.compute_capabilities)


def _expect_servable(plan: Path, sidecar: Sidecar) -> None:
    if sidecar.switch != "none":
        raise UsageError(
            f"{plan}: expected a plan of one task, got one with switch {sidecar.switch}, which Triton cannot switch; "
            "build one for each task with --switch none"
        )
    if sidecar.flavour != TRITON_PLANS:
        raise UsageError(
            f"{plan}: expected a plan of {TRITON_PLANS}, which Triton's backend loads, got one of {sidecar.flavour}; "
            f"build it with --backend {TRITON_PLANS}"
        )
    if sidecar.batch.least != 1:
        raise UsageError(
            f"{plan}: expected a plan that takes 1 image, since Triton sends what it gets, got at least "
            f"{sidecar.batch.least}; build it with --min-batch 1"
        )
