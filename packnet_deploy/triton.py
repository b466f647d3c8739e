"""A Triton model repository: one model per task, an export or a plan of that task (triton-inference-server/server).

    REPOSITORY/TASK/config.pbtxt    inputs and outputs, dynamic batching, warm-up, version policy
    REPOSITORY/TASK/labels.txt      class names, one a line
    REPOSITORY/TASK/1/model.onnx    the dense (or sparse) export; the next export of the task becomes version 2
    REPOSITORY/TASK/1/model.plan    or a plan of TensorRT

Triton serves the newest version and lets go of the older one. It cannot refit an engine, nor give it weights as inputs:
there every task has a model of its own with its weights in it, however many weights tasks have in common.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.api import export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.report import ExportReport
from packnet_deploy.export.write import move_into_place, write_buffers
from packnet_deploy.pack.atomic import staging_folder, sync_directory
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import IMAGES, LOGITS
from packnet_deploy.trt.check import read_plan
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar

MAX_BATCH = 32  # images Triton puts into one request, of a model that takes any number
QUEUE_DELAY_US = 500  # how long it waits for more

MODEL_FILE = "model.onnx"
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


def export_triton(pack: Pack, task: str, repository: Path, options: ExportOptions) -> ExportReport:
    """Write ``task`` as a model of ``repository``; each version, and each new model, appears by rename.

    Raises:
        UsageError: a layout other than dense or sparse, or ``repository`` is a file.
        ArtefactError: the model's folder holds something else; or as for ``export_task``.
        EnvironmentFault: the folder above the repository does not exist.
    """
    if options.layout not in ("dense", "sparse"):
        raise UsageError(f"layout: Triton takes one dense or sparse model per task, got {options.layout!r}")
    with pack.opened([task]) as opened:
        classes = opened.header(task).classes
        target = options.target(pack)
        config = config_text(task, target.input.shape, len(classes), target.batch)
        with _new_version(repository, task, config, classes) as (staged, version):
            report = export_task(opened, task, staged / MODEL_FILE, options)
    files = tuple(version / file.name for file in report.files)
    return ExportReport(**{**vars(report), "files": files})


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
    with _new_version(repository, task.name, config, pack.header(task.name).classes) as (staged, version):
        write_buffers(staged / PLAN_FILE, [content])
    return TritonPlan(task.name, version / PLAN_FILE, len(content), sidecar.tensorrt, sidecar.compute_capabilities)


@contextmanager
def _new_version(repository: Path, task: str, config: str, classes: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """The folder to write a model's next version to, and the one that it becomes by rename when all is written.

    On any failure the repository is as it was before.

    Raises:
        UsageError: ``repository`` is a file.
        ArtefactError: the model's folder holds something else.
        EnvironmentFault: the folder above the repository does not exist.
    """
    if repository.exists() and not repository.is_dir():
        raise UsageError(f"{repository}: expected a folder, got a file")
    if not repository.parent.is_dir():
        raise EnvironmentFault(f"{repository.parent}: no such folder; make it first")
    model = repository / task
    with _made(repository):
        version = _next_version(model)
        with staging_folder(repository) as staging:  # not inside it: Triton polls what is there
            new = staging / task
            (new / version).mkdir(parents=True)
            yield new / version, model / version
            (new / "labels.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
            (new / "config.pbtxt").write_text(config, encoding="utf-8")
            if model.exists():
                move_into_place([new / "labels.txt", new / "config.pbtxt", new / version], model)
            else:
                os.rename(new, model)
                sync_directory(model.parent)


@contextmanager
def _made(repository: Path) -> Iterator[None]:
    """The folder, made if need be; gone again where nothing came into it."""
    repository.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if not any(repository.iterdir()):
            repository.rmdir()


def config_text(
    name: str,
    images: Sequence[int],
    classes: int,
    batch: int | None,
    runs: str = 'backend: "onnxruntime"',
    most: int = MAX_BATCH,
) -> str:
    """A model's config.pbtxt (protobuf text of inference.ModelConfig).

    Args:
        images: channels, height and width.
        batch: images in each request where the model fixes it; Triton then does no batching. None: any number.
        runs: the field that says what runs the model.
        most: images that Triton may put into one request.
    """
    first = [] if batch is None else [batch]
    image, logits = [*first, *images], [*first, classes]
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}\n" if batch is None else ""
    sizes = (1, most) if batch is None else (1,)  # 1 is Triton's word for a model that it does not batch
    warm_ups = "".join(_warm_up(size, image) for size in dict.fromkeys(sizes))
    return (
        f"name: {json.dumps(name)}\n"
        f"{runs}\n"
        f"max_batch_size: {most if batch is None else 0}\n"
        f'input [ {{ name: "{IMAGES}" data_type: TYPE_FP32 dims: {image} }} ]\n'
        f'output [ {{ name: "{LOGITS}" data_type: TYPE_FP32 dims: {logits} label_filename: "labels.txt" }} ]\n'
        f"{batching}"
        "version_policy { latest { num_versions: 1 } }\n"
        f"{warm_ups}"
    )


def _warm_up(batch: int, image: Sequence[int]) -> str:
    return (
        f'model_warmup [ {{ name: "{batch} at once" batch_size: {batch} '
        f'inputs {{ key: "{IMAGES}" value {{ data_type: TYPE_FP32 dims: {list(image)} zero_data: true }} }} }} ]\n'
    )


def _next_version(model: Path) -> str:
    if not model.exists():
        return "1"
    if not (model / "config.pbtxt").is_file():
        raise ArtefactError(f"{model}: expected a Triton model with a config.pbtxt, got something else; remove it")
    return str(1 + max((int(path.name) for path in model.iterdir() if path.name.isdecimal()), default=0))


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
