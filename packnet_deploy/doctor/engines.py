"""TensorRT on this GPU: does it run, are the logits right, what does each way to switch cost?

Every function is one section of the GPU report; ``folder`` is for its packs and plans.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from packnet_deploy.bench.job import Job
from packnet_deploy.bench.options import ONNXRUNTIME, TORCH, BenchOptions
from packnet_deploy.bench.plan import run_job
from packnet_deploy.bench.prepare import jobs_of_pack
from packnet_deploy.bench.report import IN_TURN, NO_COPIES, REPEATED, Measurement
from packnet_deploy.bench.timing import summarise, time_in_turn
from packnet_deploy.doctor.section import Cell, Section, one_line, row
from packnet_deploy.errors import EnvironmentFault, PackNetError
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.check import read_plan
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import FLAVOURS, MODULES, load_flavour
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.options import SWITCHES, BuildOptions

LARGE, SMALL, SMALL_SIZE = "resnet50", "resnet18", 64
ON_GPU = ("together", "shared", "selector", "lend")  # of the ways without TensorRT, those that run on the GPU
BATCHES = (1, 8, 32)
SECONDS = 0.5  # for one task at one batch size
MB = 1e6


def installed() -> list[str]:
    """The flavours of TensorRT to ask.

    Raises:
        EnvironmentFault: there is none.
    """
    names = [name for name in FLAVOURS if importlib.util.find_spec(MODULES[name]) is not None]
    if not names:
        raise EnvironmentFault("neither tensorrt nor tensorrt-rtx is installed; run: pip install 'packnet-deploy[rtx]'")
    return names


def _small(folder: Path) -> Pack:
    from packnet_deploy.doctor.samples import sample_pack

    return sample_pack(folder / "small.pack", SMALL, SMALL_SIZE)


def _large(folder: Path) -> Pack:
    from packnet_deploy.doctor.samples import sample_pack

    return sample_pack(folder / "large.pack", LARGE)


def loads(folder: Path) -> Section:
    """Does it run here, on its list of GPUs or not?"""
    columns = ("backend", "version", "built for", "on its list", "runs")
    gpu, pack = expect_gpu("running engines"), _small(folder)
    rows = []
    for name in installed():
        flavour = load_flavour(name)
        here = gpu.compute_capability
        listed = here in flavour.compute_capabilities or not flavour.builds_for_named_gpus
        for target in [here] if listed else flavour.usual_capabilities("fp32"):
            label = (name, flavour.version, target, "yes" if listed else "no")
            rows.append(row(label, columns, partial(_runs, folder, pack, name, target, listed)))
    return Section(
        "Does it run here",
        f"Does TensorRT load and run a plan on compute capability {gpu.compute_capability}, within its list of GPUs or "
        "outside it? Outside, packnet itself refuses plans; here it does not, to find out.",
        columns,
        tuple(rows),
    )


def _runs(folder: Path, pack: Pack, name: str, target: str, listed: bool) -> tuple[Cell]:
    plan, task = folder / "runs.plan", pack.tasks[0].name
    options = BuildOptions(backend=name, switch="none", verify=False)
    if not listed:
        options = replace(options, compute_capability=(target,))
    sidecar = build_plan(pack, plan, options, task).sidecar
    flavour, content = load_flavour(name), read_plan(plan, sidecar)
    device, expected = Device(expect_gpu("running an engine")), pack.load_task(task).probe_logits
    try:
        with Engine(plan, content, sidecar, None, flavour, device) as engine:
            got = engine.infer(probe_batch(pack.input))
    except PackNetError as error:  # which is the answer, not the lack of one
        return (f"no: {one_line(error)}",)
    return (f"yes; logits differ by {np.abs(got - expected).max() / np.abs(expected).max():.1g} of their scale",)


def parity(folder: Path) -> Section:
    """Is every task of every way to switch what the pack says?"""
    columns = ("backend", "switch", "precision", "tasks", "largest difference", "allowed")
    pack = _large(folder)
    rows = [
        row((name, switch, precision), columns, partial(_differences, folder, pack, name, switch, precision))
        for name in installed()
        for switch in SWITCHES
        for precision in ("fp32", "fp16", "bf16")
    ]
    agree = sum(isinstance(cells[3], int) for cells in rows)
    failed = sum(str(cells[3]).startswith("FAILED") for cells in rows)
    return Section(
        "Parity",
        f"{LARGE}: after a build each plan is switched to every task and back, and its logits are held against the "
        "pack's, as PyTorch gave them on the CPU.",
        columns,
        tuple(rows),
        f"{agree} agree, {failed} do not, {len(rows) - agree - failed} were not measured",
    )


def _differences(folder: Path, pack: Pack, name: str, switch: str, precision: str) -> tuple[Cell, ...]:
    options = BuildOptions(backend=name, switch=switch, precision=precision)
    found = [
        difference
        for task in ([entry.name for entry in pack.tasks] if switch == "none" else [None])
        for difference in build_plan(pack, folder / "parity.plan", options, task).differences.values()
    ]
    worst = max(found, key=lambda difference: difference.max_difference / difference.allowed)
    return len(found), worst.max_difference, worst.allowed


def bias(folder: Path) -> Section:
    """Is the bias of a linear layer still there in a refittable engine?"""
    columns = ("backend", "version", "switch", "bias", "from the right logits", "from those without bias")
    pack = _small(folder)
    rows = [
        row((name, load_flavour(name).version, switch), columns, partial(_bias, folder, pack, name, switch))
        for name in installed()
        for switch in ("refit", "bind")
    ]
    return Section(
        "The bias of a linear layer",
        "TensorRT 11.3 is known to drop it from refittable engines. Largest difference of logits, of the task whose "
        "head is the last layer, from the pack's and from the pack's without the head's bias.",
        columns,
        tuple(rows),
    )


def _bias(folder: Path, pack: Pack, name: str, switch: str) -> tuple[Cell, ...]:
    plan, task = folder / "bias.plan", pack.load_task(pack.tasks[0].name)
    build_plan(pack, plan, BuildOptions(backend=name, switch=switch, verify=False))
    with Engine.load(plan, pack) as engine:
        engine.set_task(pack.tasks[0].name)
        got = engine.infer(probe_batch(pack.input))
    return which_bias(got, task.probe_logits, task.tensors["head.bias"])


def which_bias(got: np.ndarray, expected: np.ndarray, bias: np.ndarray) -> tuple[Cell, ...]:
    """Which of two an engine gives: the logits, or the logits without the head's bias."""
    kept, lost = (float(np.abs(got - wanted).max()) for wanted in (expected, expected - bias))
    clear = min(kept, lost) < 0.1 * max(kept, lost)
    return ("kept" if kept < lost else "LOST") if clear else "neither fits", kept, lost


def banks(folder: Path) -> Section:
    """What does a switch cost with the bank on the GPU, and on the host?"""
    columns = ("backend", "switch", "bank", "switch p50, ms", "switch p99, ms", "GPU memory, MB")
    pack = _large(folder)
    rows = []
    for name in installed():
        for switch in ("refit", "bind"):
            for bank in ("device", "host"):
                rows.append(row((name, switch, bank), columns, partial(_bank, folder, pack, name, switch, bank)))
    return Section(
        "The bank on the device or on the host",
        f"{LARGE}, fp32, {len(pack.tasks)} tasks: the switch alone, in turn over the tasks.",
        columns,
        tuple(rows),
    )


def _bank(folder: Path, pack: Pack, name: str, switch: str, bank: str) -> tuple[Cell, ...]:
    plan = folder / f"{name}-{switch}.plan"
    if not plan.exists():
        build_plan(pack, plan, BuildOptions(backend=name, switch=switch, verify=False))
    with Engine.load(plan, pack, bank=bank) as engine:
        calls = {task: partial(engine.set_task, task) for task in engine.tasks}
        samples = time_in_turn(calls, warmup=3, repeats=100, seconds=5)
        timing = summarise([time for times in samples.values() for time in times], batch=1)
        return timing.p50_ms, timing.p99_ms, engine.device_bytes / MB


WAYS = (
    "way",
    "in turn p50, ms",
    "in turn p99",
    "repeated p50",
    "repeated p99",
    "no copies p50",
    "no copies p99",
    "switch p50",
    "switch p99",
    f"images/s at {max(BATCHES)}",
    "GPU memory, MB",
    "files, MB",
)


def ways(folder: Path) -> Section:
    """What does each way to serve several tasks cost?"""
    pack, rows = _large(folder), list[tuple[Cell, ...]]()
    for backend in (ONNXRUNTIME, TORCH, *FLAVOURS):
        for switch in SWITCHES if backend in FLAVOURS else SWITCHES[:1]:
            label = f"{switch} {backend}" if backend in FLAVOURS else backend
            try:
                jobs = _jobs(pack, folder / label.replace(" ", "-"), backend, switch)
            except Exception as error:
                rows.append(row((label,), WAYS, partial(_raise, error)))
                continue
            rows += [row((_label(job),), WAYS, partial(_way, job)) for job in jobs]
    return Section(
        "Ways to serve several tasks",
        f"{LARGE}, fp32, {len(pack.tasks)} tasks; latencies at batch {min(BATCHES)}, medians over the tasks, as "
        "`packnet bench` defines them; 'graph': each batch is one CUDA graph.",
        WAYS,
        tuple(rows),
    )


def _jobs(pack: Pack, folder: Path, backend: str, switch: str) -> list[Job]:
    folder.mkdir()
    device = "auto" if backend in FLAVOURS else "cuda"
    options = BenchOptions(batch_sizes=BATCHES, seconds=SECONDS, device=device, backends=(backend,), switch=(switch,))
    jobs = jobs_of_pack(pack, [entry.name for entry in pack.tasks], folder, options)
    return [job for job in jobs if backend in FLAVOURS or job.strategy in ON_GPU]


def _label(job: Job) -> str:
    return f"{job.strategy} {job.backend}{' graph' if job.cuda_graph else ''}"


def _way(job: Job) -> tuple[Cell, ...]:
    return way_cells(run_job(job))


def way_cells(measured: Measurement) -> tuple[Cell, ...]:
    """A measurement as a row, without its label."""
    latencies: list[Cell] = []
    for how in (IN_TURN, REPEATED, NO_COPIES):
        timings = [one.timing for one in measured.timings(how) if one.batch == min(BATCHES)]
        for percent in ("p50_ms", "p99_ms"):
            latencies.append(float(np.median([getattr(timing, percent) for timing in timings])) if timings else None)
    rows = measured.timings(REPEATED) or measured.timings(IN_TURN)
    rates = [one.timing.images_per_s for one in rows if one.batch == max(BATCHES)]
    return (
        *latencies,
        *((None, None) if measured.switch is None else (measured.switch.p50_ms, measured.switch.p99_ms)),
        float(np.median(rates)) if rates else None,
        None if measured.gpu_memory_bytes is None else measured.gpu_memory_bytes / MB,
        measured.file_bytes / MB,
    )


def _raise(error: Exception) -> tuple[Cell, ...]:
    raise error
