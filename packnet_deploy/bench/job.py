"""The ways to serve tasks, and a job: what one process is to measure of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packnet_deploy.bench.options import ONNXRUNTIME, BenchOptions
from packnet_deploy.errors import UsageError
from packnet_deploy.runners.exported import model_files

# What is held to serve several tasks from one process, in the order in which they are shown; two are of one task alone.
WAYS = {
    "separate": "dense: each task's session alone, in a process of its own",
    "reload": "dense: one session at a time, opened anew for another task; reckoned from separate",
    "together": "dense: a session, or an engine (switch none), per task",
    "shared": "shared: a session per task, masks folded at load",
    "mapped": "shared: a session per task over one mapped bank, masked at each run",
    "selector": "selector: one session or engine, masked at each run",
    "refit": "one engine, refitted for another task",
    "bind": "one engine whose weights are its inputs, rewritten for another task",
    "lend": "one network in PyTorch, lent the weights of another task",
}


@dataclass(frozen=True)
class Job:
    """What one process is to measure.

    Attributes:
        way: one of ``WAYS``, repeated in the answer.
        models: the ONNX file or the plan of each task to hold; for PyTorch, the pack.
        files: all files that the tasks are loaded from, each once.
        backend: one of ``options.BACKENDS``.
        pack: for every backend but ONNX Runtime.
        cuda_graph: TensorRT runs each batch as one CUDA graph where it can.
    """

    way: str
    models: dict[str, str]
    files: tuple[str, ...]
    options: BenchOptions
    backend: str = ONNXRUNTIME
    pack: str = ""
    cuda_graph: bool = False

    @property
    def label(self) -> str:
        """What it measures, in a few words."""
        return way_label(self.way, self.backend, cuda_graph=self.cuda_graph)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        return cls(**{**value, "files": tuple(value["files"]), "options": BenchOptions(**value["options"])})


def jobs_of_exports(
    models: Mapping[str, Path], options: BenchOptions, others: Mapping[str, Mapping[str, Path]] | None = None
) -> tuple[Job, ...]:
    """Each task alone, then, if there are several, all of them together; then ``others``, each with all its tasks.

    Args:
        models: each task's dense file.
        others: by way (``shared``, ``mapped``, ``selector``), the file that serves each task.

    Raises:
        UsageError: no models, or a file that is not there.
        ArtefactError: a file is not ONNX, or its external data is missing.
    """
    if not models and not others:
        raise UsageError("models: expected at least one task's ONNX file, got none; run packnet export")

    def job(way: str, tasks: Mapping[str, Path]) -> Job:
        paths = {task: Path(path).absolute() for task, path in tasks.items()}
        each_once = dict.fromkeys(str(file) for path in dict.fromkeys(paths.values()) for file in model_files(path))
        return Job(way, {task: str(path) for task, path in paths.items()}, tuple(each_once), options)

    jobs = [job("separate", {task: path}) for task, path in models.items()]
    if len(models) > 1:
        jobs.append(job("together", models))
    return (*jobs, *(job(way, tasks) for way, tasks in (others or {}).items()))


def way_label(way: str, backend: str, *, cuda_graph: bool = False) -> str:
    """A way in a few words, with the backend where it is not ONNX Runtime."""
    return " ".join([way, *([backend] if backend != ONNXRUNTIME else []), *(["graph"] if cuda_graph else [])])
