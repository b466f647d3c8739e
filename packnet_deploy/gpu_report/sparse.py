"""2:4 on this GPU: what do sparse kernels gain, and does the guard keep dense weights away from them?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from packnet_deploy.bench.timing import summarise, time_in_turn
from packnet_deploy.errors import ArtefactError, CheckFailed
from packnet_deploy.fresh import one_line
from packnet_deploy.gpu_report.engines import SMALL, SMALL_SIZE, installed
from packnet_deploy.gpu_report.section import Cell, Section
from packnet_deploy.gpu_report.sheet import Sheet
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Sidecar, write_sidecar

ARCHS = ("resnet50", "vgg16")
BATCHES = (1, 32)


def gain(folder: Path, sheet: Sheet) -> Section:
    """How much faster is an engine that may use sparse kernels?"""
    columns = ("network", "backend", "switch", "batch", "sparse layers", "picked", "sparse, ms", "dense, ms", "gain")
    rows = [
        sheet.row((arch, name, switch, batch), columns, partial(_gain, folder, arch, name, switch, batch))
        for arch in ARCHS
        for name in installed()
        for switch in ("none", "refit")
        for batch in BATCHES
    ]
    return Section(
        "What 2:4 gains",
        "Packs with `--pattern 2:4`, fp16: the same plan built with `--sparsity auto` and `off`, run in turn, as CUDA "
        "graphs, copies left out; p50. Picked: how many layers TensorRT says it runs sparse.",
        columns,
        tuple(rows),
    )


def _gain(folder: Path, arch: str, name: str, switch: str, batch: int) -> tuple[Cell, ...]:
    pack = patterned(folder, arch)
    task = pack.tasks[-1].name
    sidecars: list[Sidecar] = []
    plans = [folder / "sparse.plan", folder / "dense.plan"]
    for plan, sparsity in zip(plans, ("auto", "off"), strict=True):
        options = BuildOptions(
            backend=name,
            switch=switch,
            precision="fp16",
            opt_batch=batch,
            max_batch=batch,
            sparsity=sparsity,
            verify=False,
        )
        sidecars.append(build_plan(pack, plan, options, task if switch == "none" else None).sidecar)
    images = np.random.default_rng(0).standard_normal((batch, *pack.input.shape), np.float32)
    with Engine.load(plans[0], pack, cuda_graph=True) as sparse, Engine.load(plans[1], pack, cuda_graph=True) as dense:
        for engine in (sparse, dense):
            engine.set_task(task)
            engine.infer(images)
        calls = {"sparse": sparse.run_again, "dense": dense.run_again}
        samples = time_in_turn(calls, warmup=10, repeats=1000, seconds=2)
    sparse_ms, dense_ms = (summarise(samples[which], batch).p50_ms for which in ("sparse", "dense"))
    picked = [layer.picked for layer in sidecars[0].sparsity]
    return (
        sum(layer.eligible for layer in sidecars[0].sparsity) if sidecars[0].sparse_weights else 0,
        "it does not tell" if None in picked else sum(map(bool, picked)),
        sparse_ms,
        dense_ms,
        dense_ms / sparse_ms,
    )


def patterned(folder: Path, arch: str) -> Pack:
    """A pack that keeps to 2:4."""
    from packnet_deploy.gpu_report.samples import sample_pack

    return sample_pack(folder / f"{arch}-2-4.pack", arch, pattern="2:4")


def breaking(folder: Path) -> tuple[Pack, Pack]:
    """A pack that keeps to 2:4 though nothing promises it, and the same grown by a task that does not."""
    from packnet_deploy.gpu_report.samples import breaking_packs

    return breaking_packs(folder, SMALL, SMALL_SIZE)


def guard(folder: Path, sheet: Sheet) -> Section:
    """Does a task that breaks the pattern stay away from a sparse kernel?"""
    columns = ("backend", "guard", "what happens")
    before, grown = breaking(folder)
    rows = []
    for name in installed():
        for on in (True, False):
            label = (name, "packnet's" if on else "none but TensorRT's own")
            rows.append(sheet.row(label, columns, partial(_guarded, folder, before, grown, name, on)))
    return Section(
        "The sparse guard",
        "A plan whose layers may run sparse, and a task added since that breaks 2:4 in them. Packnet refuses to load "
        "it; what would TensorRT do if nobody did?",
        columns,
        tuple(rows),
    )


def _guarded(folder: Path, before: Pack, grown: Pack, name: str, on: bool) -> tuple[Cell]:
    plan, added = folder / "guard.plan", grown.tasks[-1].name
    options = BuildOptions(backend=name, switch="refit", precision="fp16", sparsity="require", verify=False)
    sidecar = build_plan(before, plan, options).sidecar
    if not on:
        blind = tuple(replace(layer, eligible=False) for layer in sidecar.sparsity)
        write_sidecar(replace(sidecar, sparsity=blind), plan)
    try:
        with Engine.load(plan, grown) as engine:
            engine.set_task(added)
            got = engine.infer(probe_batch(grown.input))
    except ArtefactError as error:
        return (f"refused: {one_line(error)}",)
    if on:
        raise CheckFailed("the plan was loaded")
    expected = grown.load_task(added).probe_logits
    return (f"runs; logits differ by {compare(got, expected).of_scale:.1g} of their scale",)
