"""TensorRT on this GPU: does it run, are the logits right, what does where the bank lies cost?

Every function is one section of the GPU report; ``folder`` is for its packs and plans.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from packnet_deploy.bench.timing import summarise, time_in_turn
from packnet_deploy.errors import EnvironmentFault, PackNetError
from packnet_deploy.fresh import one_line
from packnet_deploy.gpu_report.section import Cell, Section, row
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.check import read_plan
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import FLAVOURS, MODULES, load_flavour
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.options import SWITCHES, BuildOptions

LARGE, SMALL, SMALL_SIZE = "resnet50", "resnet18", 64
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
    from packnet_deploy.gpu_report.samples import sample_pack

    return sample_pack(folder / "small.pack", SMALL, SMALL_SIZE)


def large(folder: Path) -> Pack:
    """A pack of three tasks as large as those that are deployed."""
    from packnet_deploy.gpu_report.samples import sample_pack

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
        with Engine(plan, content, sidecar, None, flavour, [device]) as engine:
            got = engine.infer(probe_batch(pack.input))
    except PackNetError as error:  # which is the answer, not the lack of one
        return (f"no: {one_line(error)}",)
    return (f"yes; logits differ by {compare(got, expected).of_scale:.1g} of their scale",)


def parity(folder: Path) -> Section:
    """Is every task of every way to switch what the pack says?"""
    columns = ("backend", "switch", "precision", "tasks", "largest difference", "allowed")
    pack = large(folder)
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
    worst = max(found, key=lambda difference: difference.of_allowed)
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
    kept, lost = (compare(got, wanted).max_difference for wanted in (expected, expected - bias))
    clear = min(kept, lost) < 0.1 * max(kept, lost)
    return ("kept" if kept < lost else "LOST") if clear else "neither fits", kept, lost


def banks(folder: Path) -> Section:
    """What does a switch cost with the bank on the GPU, and on the host?"""
    columns = ("backend", "switch", "bank", "switch p50, ms", "switch p99, ms", "GPU memory, MB")
    pack = large(folder)
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
