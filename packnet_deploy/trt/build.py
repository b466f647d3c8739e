"""``packnet build``: a pack to a plan and its sidecar, checked on the GPU before either takes its name.

What the graph is, is graph.py; making TensorRT build it, network.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.deploy_bank import DeployBank, load_deploy_bank
from packnet_deploy.export.write import move_into_place, write_buffers
from packnet_deploy.pack.atomic import staging_folder
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.comparison import Difference
from packnet_deploy.trt.check import engine_tolerance, verify_engine
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import AMPERE, FROM_AMPERE_ON, LOSES_GEMM_BIAS, Flavour, load_flavour
from packnet_deploy.trt.gpu import expect_gpu, find_gpu, gpu_index, make_current
from packnet_deploy.trt.graph import EngineGraph, engine_graph, layer_names, why_dense, with_picked
from packnet_deploy.trt.inspection import Layer, picked_by_inspector
from packnet_deploy.trt.layout import FILTER
from packnet_deploy.trt.network import Network, Progress
from packnet_deploy.trt.options import BuildOptions, asks_for_tf32, read_settings
from packnet_deploy.trt.sidecar import Batch, Gpu, PlanTask, Sidecar, sidecar_path, write_sidecar


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes:
        differences: from the pack's probe logits, by task; empty where nothing was run.
        notes: what the user should know, a sentence each.
    """

    plan: Path
    sidecar: Sidecar
    differences: Mapping[str, Difference] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def build_plans(
    pack: Pack, plans: Mapping[str, Path], options: BuildOptions, progress: Progress | None = None
) -> list[BuildReport]:
    """A plan with switch ``none`` for each task, by its name; the pack is read and its bank typed once for all.

    Raises:
        PackNetError: as ``build_plan``; what was built before stays.
    """
    with pack.opened() as opened:
        bank = load_deploy_bank(opened, options.target(opened))
        return [build_plan(opened, path, options, task, progress, bank) for task, path in plans.items()]


def build_plan(
    pack: Pack,
    path: Path,
    options: BuildOptions,
    task: str | None = None,
    progress: Progress | None = None,
    bank: DeployBank | None = None,
) -> BuildReport:
    """Build an engine and write it to ``path``, and what has to be known of it to ``path``.json.

    Both take their names when both are complete, and on a machine with a GPU only after every task's logits have been
    compared with the pack's. On any failure nothing is left behind and older files are untouched.

    Args:
        task: the one task of a plan with switch ``none``; other plans hold all.
        bank: the pack's for these options, from whoever has loaded it already.

    Raises:
        UsageError: options that contradict each other or the pack.
        EnvironmentFault: no TensorRT, no GPU where one is needed, or TensorRT cannot build it here.
        ArtefactError: the pack is damaged, or TensorRT refuses its graph.
        CheckFailed: the engine gives other logits than the pack.
        KeyboardInterrupt: stopped by SIGINT.
        OSError: the disk is full, or the folder is not writable.
    """
    if (task is None) != (options.switch != "none"):
        raise UsageError(f"--task: expected one with --switch none and none with others, got --switch {options.switch}")
    if path.is_dir():
        raise UsageError(f"{path}: expected a file name, got a folder; say {path / 'engine.plan'}")
    if not path.parent.is_dir():
        raise EnvironmentFault(f"{path.parent}: no such folder; make it first")
    settings = read_settings(options.config) if options.config is not None else {}
    flavour, gpu = load_flavour(options.backend), _gpu(options)
    if options.timing_cache is not None and not flavour.times_kernels:
        raise UsageError(f"--timing-cache: {flavour.name} times no kernels when it builds; leave it out")
    capabilities = _capabilities(flavour, gpu, options)
    with pack.opened() as opened:
        graph = engine_graph(opened, options, task, bank)
        if options.sparsity == "require" and not graph.may_be_sparse:
            raise UsageError(f"--sparsity require: no layer can be sparse: {why_dense(graph.bank)}")
        sparse = options.sparsity != "off" and graph.may_be_sparse and options.switch in ("refit", "none")
        marked = [weight.name for weight in graph.weights] if options.switch == "refit" else []
        network = Network.parse(flavour, graph.onnx, marked)
        if network.unmarked:
            raise ArtefactError(
                f"weight '{network.unmarked[0]}': {flavour.name} {flavour.version} cannot refit it "
                f"({len(network.unmarked)} of {len(marked)}); use --switch bind"
            )
        if options.channels_last:
            network.expect_channels_last({weight.name for weight in graph.weights if len(weight.shape) == FILTER})
        plan = network.serialise(
            options,
            graph.target.input.shape,
            capabilities=capabilities,
            refit=options.switch == "refit",
            sparse=sparse,
            settings=settings,
            progress=progress,
        )
        sidecar = _sidecar(pack, options, task, graph, network, plan, sparse, gpu, capabilities)
        sidecar = replace(sidecar, tf32=asks_for_tf32(settings))
        del network
        with staging_folder(path) as folder:
            staged = folder / path.name
            write_buffers(staged, [plan])
            write_sidecar(sidecar, staged)
            differences: dict[str, Difference] = {}
            runs = gpu is not None and gpu.compute_capability in sidecar.compute_capabilities
            if options.verify and runs:
                rtol = engine_tolerance(sidecar, opened) if options.rtol is None else options.rtol
                with Engine.load(staged, opened, device=options.device, weights=graph.bank) as engine:
                    differences = verify_engine(engine, opened, engine.tasks, graph.target, path, rtol)
                    sidecar = _with_picked(sidecar, graph, engine.layers())
                write_sidecar(sidecar, staged)
            move_into_place([staged, sidecar_path(staged)], path.parent)
        return BuildReport(path, sidecar, differences, _notes(flavour, options, graph, runs))


def _gpu(options: BuildOptions) -> Gpu | None:
    """The GPU to build on, made the one that TensorRT takes; None where there is none at all."""
    index = gpu_index(options.device)
    gpu = expect_gpu("building an engine", index) if index else find_gpu()
    if gpu is not None:
        make_current(index)
    return gpu


def _capabilities(flavour: Flavour, gpu: Gpu | None, options: BuildOptions) -> tuple[str, ...]:
    """What to build for; raises where this machine cannot build what is asked for."""
    if options.switch == "refit" and gpu is None:
        raise EnvironmentFault(
            "--switch refit: a GPU is needed to build refittable engines, there is none here; build on the machine "
            "that will run it, or use --switch bind (tensorrt-rtx builds it without a GPU), or see --dry-run"
        )
    if not flavour.builds_for_named_gpus:
        if gpu is None:
            raise EnvironmentFault(
                f"--backend {flavour.name}: it builds for the GPU it finds, there is none here; use --backend "
                "tensorrt-rtx with --switch bind or none"
            )
        if options.hardware_compatible:
            if gpu.compute_capability not in FROM_AMPERE_ON:
                raise EnvironmentFault(
                    f"--hardware-compatible: expected a GPU of compute capability {AMPERE} or newer to build on, got "
                    f"{gpu.compute_capability}; leave it out"
                )
            return FROM_AMPERE_ON
        return (gpu.compute_capability,)
    if options.hardware_compatible:  # --backend auto has found this one
        raise UsageError(f"--hardware-compatible: {flavour.name} builds for GPUs that are named: --compute-capability")
    offered = flavour.compute_capabilities
    here = () if gpu is None else (gpu.compute_capability,)
    if options.switch == "refit" and options.compute_capability not in ((), here):
        raise UsageError(
            f"--compute-capability: a refittable engine is built on and for the GPU here, {', '.join(here)}; "
            "leave it out"
        )
    if options.switch == "refit":  # built for the current GPU, whether or not it can be named
        return here
    wanted = options.compute_capability or here or flavour.usual_capabilities(options.precision)
    if unknown := [name for name in wanted if name not in offered]:
        raise EnvironmentFault(
            f"compute capability {unknown[0]}: {flavour.name} {flavour.version} builds for {', '.join(offered)}; "
            "name others by --compute-capability, or use --backend tensorrt"
        )
    return tuple(dict.fromkeys(wanted))


def _sidecar(
    pack: Pack,
    options: BuildOptions,
    task: str | None,
    graph: EngineGraph,
    network: Network,
    plan: bytes,
    sparse: bool,
    gpu: Gpu | None,
    capabilities: tuple[str, ...],
) -> Sidecar:
    layers = layer_names(graph)
    picked = network.picked([layers[one.name] for one in graph.sparsity if one.name in layers]) if sparse else None
    return Sidecar(
        flavour=network.flavour.name,
        tensorrt=network.flavour.version,
        gpu=gpu,
        compute_capabilities=capabilities,
        switch=options.switch,
        precision=options.precision,
        batch=Batch(options.min_batch, options.opt_batch, options.max_batch),
        input=graph.target.input,
        classes=graph.classes,
        fixed_sha256=graph.bank.fixed_sha256,
        graph_sha256=pack.manifest.graph_sha256,
        onnx_sha256=hashlib.sha256(graph.onnx).hexdigest(),
        tasks=tuple(
            PlanTask(entry.name, entry.index, entry.classes, entry.sha256)
            for entry in pack.tasks
            if task in (None, entry.name)
        ),
        weights=graph.weights,
        norms=graph.bank.norms,
        sparse_weights=sparse,
        tf32=False,
        sparsity=with_picked(graph, picked),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
    )


def _with_picked(sidecar: Sidecar, graph: EngineGraph, layers: Sequence[Layer]) -> Sidecar:
    """The same, with what the loaded engine tells of its kernels in place of what the builder's log did."""
    names = layer_names(graph)
    picked = picked_by_inspector(layers, list(names.values())) if sidecar.sparse_weights else None
    return sidecar if picked is None else replace(sidecar, sparsity=with_picked(graph, picked))


def _notes(flavour: Flavour, options: BuildOptions, graph: EngineGraph, runs: bool) -> tuple[str, ...]:
    notes = []
    if not runs:
        notes.append("not run: there is no GPU here that it fits; where there is one: packnet verify --plan")
    elif not options.verify:
        notes.append("not run, as asked for: --no-verify")
    gemm = any(node.op_type == "Gemm" for node in graph.bank.model.graph.node)
    if options.switch == "refit" and gemm and flavour.version.startswith(f"{LOSES_GEMM_BIAS}."):
        notes.append(
            f"{flavour.name} {flavour.version} is known to drop the bias of a linear layer in refittable engines; "
            "run no plan of it that was not verified"
        )
    return tuple(notes)
