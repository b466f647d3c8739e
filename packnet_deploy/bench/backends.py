"""Opening what a job measures: sessions of ONNX Runtime, engines of TensorRT, or a network in PyTorch.

Each backend is one function: a context manager that gives what is ``Held``. What is done with it is ``worker``'s
business; that a backend's libraries are loaded before anything is measured, ``start``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from packnet_deploy.bench.job import Job
from packnet_deploy.bench.memory import gpu_bytes_used
from packnet_deploy.bench.options import ONNXRUNTIME, TORCH
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import Float32Array, Runner
from packnet_deploy.runners.devices import device_of
from packnet_deploy.runners.onnx import OnnxRunner, start_runtime
from packnet_deploy.runners.session import CUDA
from packnet_deploy.trt.flavour import load_flavour
from packnet_deploy.trt.runner import TensorrtRunner

TENSORRT_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}

Shape = tuple["int | None", ...]


@dataclass(frozen=True)
class Again:
    """A batch that lies where it is run.

    Attributes:
        run: runs it and waits; the logits stay where they are.
        gpu_ms: does so, and gives the time by the GPU's own clock; None where that cannot be had.
    """

    run: Callable[[], object]
    gpu_ms: Callable[[], float] | None = None


@dataclass(frozen=True)
class Held:
    """All tasks of a job, ready to run.

    Attributes:
        shapes: each task's images, ``(c, h, w)``; None for a size that a model leaves open.
        providers: what really runs each task, in words.
        notes: what is not as asked for so far, a sentence each.
        switch: makes the engine another task and does nothing else; None where no switch can be told from a request.
        again: puts a batch of a task where it runs, to be run again without copies; None where that cannot be had.
        most: images that the engine takes at once; larger batches go in parts. None: any number.
    """

    runner: Runner
    shapes: Mapping[str, Shape]
    providers: Mapping[str, str]
    notes: Callable[[], tuple[str, ...]] = tuple
    switch: Callable[[str], object] | None = None
    again: Callable[[str, Float32Array], Again] | None = None
    most: int | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.shapes)


def start(job: Job) -> None:
    """Load the job's libraries and start the GPU, if it is to be used: what the first in a process pays for.

    Raises:
        EnvironmentFault: a library, or the GPU that was asked for, is not to be had.
    """
    if job.backend == ONNXRUNTIME:
        start_runtime(job.options.device)
    elif job.backend == TORCH:
        _start_torch(job)
    else:
        load_flavour(job.backend)
        gpu_bytes_used(device_of(job.options.device)[1])


def opened(job: Job) -> AbstractContextManager[Held]:
    """Load all of a job's tasks; they are let go of at the end of the ``with`` block.

    Raises (on entering):
        PackNetError: as the runner of the job's backend raises it.
    """
    return {ONNXRUNTIME: _onnxruntime, TORCH: _torch}.get(job.backend, _tensorrt)(job)


@contextmanager
def _onnxruntime(job: Job) -> Iterator[Held]:
    mapped = job.way == "mapped"
    models = {task: Path(path) for task, path in job.models.items()}
    device = "cpu" if mapped else job.options.device
    with OnnxRunner(models, device, job.options.threads, mapped=mapped, rehearsed=True) as runner:
        shapes = {task: runner.input_shape(task)[1:] for task in runner.tasks}
        on_gpu = set(runner.providers.values()) == {CUDA}
        again = (lambda task, images: Again(runner.hold(images, task))) if on_gpu else None
        yield Held(runner, shapes, runner.providers, lambda: tuple(runner.notes), again=again)


@contextmanager
def _tensorrt(job: Job) -> Iterator[Held]:
    paths = {task: Path(path) for task, path in job.models.items()}
    plan = paths if job.way == "together" else next(iter(paths.values()))
    gpu = f"cuda:{device_of(job.options.device)[1]}"
    with TensorrtRunner(plan, Path(job.pack), cuda_graph=job.cuda_graph, device=gpu) as runner:
        sidecars = {task: runner.engine(task).sidecar for task in paths}
        most = min(sidecar.batch.most for sidecar in sidecars.values())
        notes = []
        if large := [str(size) for size in job.options.batch_sizes if size > most]:
            notes.append(f"{job.label}: batches of {', '.join(large)} go in parts of {most}, the most the plan takes")
        if odd := {sidecar.precision for sidecar in sidecars.values()} - {job.options.precision}:
            notes.append(f"{job.label}: the plan computes in {odd.pop()}, not in {job.options.precision} as others do")
        yield Held(
            runner,
            {task: sidecar.input.shape for task, sidecar in sidecars.items()},
            dict.fromkeys(sidecars, TENSORRT_NAMES[job.backend]),
            lambda: (*notes, *(f"{job.label}: {note}" for note in _notes(runner, paths))),
            (lambda task: runner.engine(task).set_task(task)) if plan is not paths else None,
            partial(_again, runner),
            most,
        )


def _notes(runner: TensorrtRunner, tasks: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(note for task in tasks for note in runner.engine(task).notes)


def _again(runner: TensorrtRunner, task: str, images: Float32Array) -> Again:
    runner.infer(images, task)
    engine = runner.engine(task)
    return Again(engine.run_again, engine.time_again)


@contextmanager
def _torch(job: Job) -> Iterator[Held]:
    """All tasks' tensors in memory, and one network that is lent those of the task that is asked for."""
    device = _start_torch(job)
    from packnet_deploy.training.backbones import build
    from packnet_deploy.training.runner import TorchRunner

    pack = Pack.open(Path(job.pack))
    weights = {task: pack.load_task(task).tensors for task in job.models}
    module, head = build(pack.backbone.arch, pack.tasks[0].classes)
    with TorchRunner(module, weights.__getitem__, tasks=list(weights), head=head, device=device) as runner:
        fp32 = ("torch runs in fp32 whatever the precision of others",) if job.options.precision != "fp32" else ()
        providers = dict.fromkeys(weights, f"PyTorch, {device}")
        yield Held(runner, dict.fromkeys(weights, pack.input.shape), providers, lambda: fp32, switch=runner.set_task)


def _start_torch(job: Job) -> str:
    """Load PyTorch and the networks; says where it runs, ``cuda`` or ``cpu``."""
    from packnet_deploy.training.runner import start_torch

    device = start_torch(job.options.device, job.options.threads)
    import packnet_deploy.training.backbones  # noqa: F401

    return device
