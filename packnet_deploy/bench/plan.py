"""A benchmark run: which processes to start, in which order, and what to make of their answers.

Each strategy is measured in a fresh process, because memory given back to the allocator, warm caches and a loaded
runtime would otherwise flatter whichever comes last.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from packnet_deploy import errors
from packnet_deploy.bench.job import Job
from packnet_deploy.bench.machine import PACKAGES, describe_machine
from packnet_deploy.bench.options import ONNXRUNTIME, TORCH, BenchOptions
from packnet_deploy.bench.report import BenchReport, Measurement
from packnet_deploy.runners.exported import model_files
from packnet_deploy.trt.flavour import FLAVOURS

# The worker sees exactly this process's import path: neither -m nor a script would do, both put a folder before it.
START = "import sys; sys.path[:] = sys.argv[1:]; from packnet_deploy.bench.worker import main; main()"

# What to name the version of, by backend, besides machine.PACKAGES.
PACKAGES_OF: Mapping[str, tuple[str, ...]] = {
    ONNXRUNTIME: (),
    TORCH: ("torch",),
    **{name: (name, "cuda-python") for name in FLAVOURS},
}

Ways = Mapping[str, Mapping[str, Path]]


def plan_jobs(models: Mapping[str, Path], options: BenchOptions, others: Ways | None = None) -> tuple[Job, ...]:
    """Each task alone, then, if there are several, all of them together; then ``others``, each with all its tasks.

    Raises:
        UsageError: no models, or a file that is not there.
        ArtefactError: a file is not ONNX, or its external data is missing.
    """
    if not models and not others:
        raise errors.UsageError("models: expected at least one task's ONNX file, got none; run packnet export")

    def job(strategy: str, tasks: Mapping[str, Path]) -> Job:
        paths = {task: Path(path).absolute() for task, path in tasks.items()}
        each_once = dict.fromkeys(str(file) for path in dict.fromkeys(paths.values()) for file in model_files(path))
        return Job(strategy, {task: str(path) for task, path in paths.items()}, tuple(each_once), options)

    jobs = [job("separate", {task: path}) for task, path in models.items()]
    if len(models) > 1:
        jobs.append(job("together", models))
    return (*jobs, *(job(strategy, tasks) for strategy, tasks in (others or {}).items()))


def run_job(job: Job) -> Measurement:
    """Measure one job in a fresh process, which does not outlive this call (nor Ctrl-C).

    Raises:
        PackNetError: whatever the worker met, with its own class, exit code and message.
        EnvironmentFault: the worker was killed, or ended without an answer.
    """
    process = subprocess.run(  # kills the worker when interrupted
        [sys.executable, "-c", START, *sys.path],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    what = f"bench, {job.label}, {', '.join(job.models)}"
    try:
        answer = json.loads(process.stdout)
    except ValueError:
        last_words = process.stderr.strip().splitlines()[-1:] or ["no message"]
        how = _how_it_ended(process.returncode)
        raise errors.EnvironmentFault(f"{what}: the measuring process {how} ({last_words[0]})") from None
    if "error" in answer:
        worker_traceback = RuntimeError(f"in the measuring process:\n{process.stderr}")  # shown by -v
        raise getattr(errors, answer["error"])(f"{what}: {answer['message']}") from worker_traceback
    return Measurement.from_json(answer["measurement"])


def run_bench(
    models: Mapping[str, Path],
    options: BenchOptions | None = None,
    on_start: Callable[[int, int, Job], None] | None = None,
    others: Ways | None = None,
) -> BenchReport:
    """Measure each task's ONNX file alone, all of them together, and other ways to serve them.

    Args:
        models: each task's exported file.
        others: by strategy (``shared``, ``mapped``, ``selector``), the file that serves each task.
        on_start: told, before each job, how many are done, how many there are, and which is next.

    Raises:
        PackNetError: see ``plan_jobs`` and ``run_job``; the first failure ends the run.
    """
    options = options or BenchOptions()
    return run_jobs(plan_jobs(models, options, others), options, on_start)


def run_jobs(
    jobs: Sequence[Job], options: BenchOptions, on_start: Callable[[int, int, Job], None] | None = None
) -> BenchReport:
    """Measure one job after the other; as ``run_bench`` otherwise."""
    measurements = []
    for done, job in enumerate(jobs):
        if on_start is not None:
            on_start(done, len(jobs), job)
        measurements.append(run_job(job))
    packages = dict.fromkeys(package for job in jobs for package in (*PACKAGES, *PACKAGES_OF[job.backend]))
    return BenchReport(describe_machine(tuple(packages)), options, tuple(measurements))


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode} and no answer"
    name = signal.Signals(-returncode).name
    hint = ", which is how a system short of memory ends processes" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
