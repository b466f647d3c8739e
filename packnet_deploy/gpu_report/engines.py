"""TensorRT on this GPU: does it run at all, and does it keep the bias of a linear layer?

``loads`` and ``bias`` are sections of the GPU report; ``folder`` is for packs and plans.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from packnet_deploy.errors import EnvironmentFault, PackNetError
from packnet_deploy.fresh import one_line
from packnet_deploy.gpu_report.section import Cell, Section
from packnet_deploy.gpu_report.sheet import Sheet
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.check import read_plan
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import FLAVOURS, MODULES, load_flavour
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.network import CURRENT, Network
from packnet_deploy.trt.options import BuildOptions

LARGE, SMALL, SMALL_SIZE = "resnet50", "resnet18", 64
UNSET = "unset"
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


def small(folder: Path) -> Pack:
    """A pack of three tasks that is built in no time."""
    from packnet_deploy.gpu_report.samples import sample_pack

    return sample_pack(folder / "small.pack", SMALL, SMALL_SIZE)


def large(folder: Path) -> Pack:
    """A pack of three tasks as large as those that are deployed."""
    from packnet_deploy.gpu_report.samples import sample_pack

    return sample_pack(folder / "large.pack", LARGE)


def loads(folder: Path, sheet: Sheet) -> Section:
    """Does it run here, on its list of GPUs or not?"""
    columns = ("backend", "version", "built for", "on its list", "runs")
    gpu = expect_gpu("running engines")
    rows = []
    for name in installed():
        flavour = load_flavour(name)
        here = gpu.compute_capability
        listed = here in flavour.compute_capabilities or not flavour.builds_for_named_gpus
        named = [here] if listed else list(flavour.usual_capabilities("fp32"))
        for target in [*named, UNSET, CURRENT] if flavour.builds_for_named_gpus else named:
            label = (name, flavour.version, target, "yes" if listed else "no")
            rows.append(sheet.row(label, columns, partial(_runs, folder, name, target, named)))
    return Section(
        "Does it run here",
        f"Does TensorRT load and run a plan on compute capability {gpu.compute_capability}, within its list of GPUs or "
        f"outside it? Outside, packnet itself refuses plans; not here, to find out. {UNSET}: no list was given.",
        columns,
        tuple(rows),
    )


def _runs(folder: Path, name: str, target: str, named: Sequence[str]) -> tuple[Cell]:
    pack = small(folder)
    plan, task, flavour = folder / "runs.plan", pack.tasks[0].name, load_flavour(name)
    options = BuildOptions(backend=name, switch="none", verify=False)
    if flavour.builds_for_named_gpus:
        options = replace(options, compute_capability=(target,) if target in named else tuple(named))
    sidecar = build_plan(pack, plan, options, task).sidecar
    content = read_plan(plan, sidecar)
    if target not in named:
        graph = engine_graph(pack, options, task)
        capabilities = [] if target == UNSET else [target]
        network = Network.parse(flavour, graph.onnx, [])
        content = network.serialise(options, graph.target.input.shape, capabilities=capabilities)
    device, expected = Device(expect_gpu("running an engine")), pack.load_task(task).probe_logits
    try:
        with Engine(plan, content, sidecar, None, flavour, [device]) as engine:
            got = engine.infer(probe_batch(pack.input))
    except PackNetError as error:  # which is the answer, not the lack of one
        return (f"no: {one_line(error)}",)
    return (f"yes; logits differ by {compare(got, expected).of_scale:.1g} of their scale",)


def bias(folder: Path, sheet: Sheet) -> Section:
    """Is the bias of a linear layer still there in a refittable engine?"""
    columns = ("backend", "version", "switch", "bias", "from the right logits", "from those without bias")
    rows = [
        sheet.row((name, load_flavour(name).version, switch), columns, partial(_bias, folder, name, switch))
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


def _bias(folder: Path, name: str, switch: str) -> tuple[Cell, ...]:
    pack = small(folder)
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
