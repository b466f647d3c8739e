"""A benchmark run: one job after the other, each in a fresh process, and what to make of their answers.

Memory given back to the allocator, warm caches and a loaded runtime would otherwise flatter whichever comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from packnet_deploy import errors
from packnet_deploy.bench.job import Job, jobs_of_exports
from packnet_deploy.bench.machine import PACKAGES, describe_machine
from packnet_deploy.bench.options import ONNXRUNTIME, TORCH, BenchOptions
from packnet_deploy.bench.report import BenchReport, Measurement
from packnet_deploy.bench.worker import answer
from packnet_deploy.fresh import NoAnswer, Raised, in_fresh_process
from packnet_deploy.trt.flavour import FLAVOURS

# What to name the version of, by backend, besides machine.PACKAGES.
PACKAGES_OF: Mapping[str, tuple[str, ...]] = {
    ONNXRUNTIME: (),
    TORCH: ("torch",),
    **{name: (name, "cuda-python") for name in FLAVOURS},
}


def run_job(job: Job) -> Measurement:
    """Measure one job in a fresh process, which does not outlive this call (nor Ctrl-C).

    Raises:
        PackNetError: whatever the worker met, with its own class, exit code and message.
        EnvironmentFault: the worker was killed, or ended without an answer.
    """
    what = f"bench, {job.label}, {', '.join(job.models)}"
    try:
        return Measurement.from_json(in_fresh_process(answer, asdict(job)))
    except NoAnswer as error:
        raise errors.EnvironmentFault(f"{what}: {error}") from None
    except Raised as error:
        worker_traceback = RuntimeError(f"in the measuring process:\n{error.printed}")  # shown by -v
        kind: type[errors.PackNetError] = getattr(errors, error.kind, errors.PackNetError)
        raise kind(f"{what}: {error}") from worker_traceback


def run_bench(
    models: Mapping[str, Path],
    options: BenchOptions | None = None,
    on_start: Callable[[int, int, Job], None] | None = None,
) -> BenchReport:
    """Measure each task's ONNX file alone, and all of them together.

    Args:
        models: each task's dense file.
        on_start: told, before each job, how many are done, how many there are, and which is next.

    Raises:
        PackNetError: see ``jobs_of_exports`` and ``run_job``; the first failure ends the run.
    """
    options = options or BenchOptions()
    return run_jobs(jobs_of_exports(models, options), options, on_start)


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
