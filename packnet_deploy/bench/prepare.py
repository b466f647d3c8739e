"""What there is to measure, as jobs: plans and models given as files, or a pack made into them in a temporary folder.

That a GPU is there is asked first, so that nobody waits for half a run to be told.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from packnet_deploy.bench.job import Job, jobs_of_exports
from packnet_deploy.bench.options import ONNXRUNTIME, TORCH, BenchOptions
from packnet_deploy.errors import UsageError, missing_package
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.manifest import GRAPH_FILE, MANIFEST_FILE
from packnet_deploy.runners.devices import device_of
from packnet_deploy.runners.exported import tasks_in
from packnet_deploy.runners.rehearsal import rehearse
from packnet_deploy.trt.build import build_plan, build_plans
from packnet_deploy.trt.check import SWITCHED_BY_WEIGHTS
from packnet_deploy.trt.flavour import FLAVOURS, load_flavour
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.runner import TensorrtRunner
from packnet_deploy.trt.sidecar import read_sidecar, sidecar_path

PLANS = "*.plan"


def split_files(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """ONNX files, and folders of them; and plans: what has a sidecar or is called one. A folder may hold both."""
    models, plans = [], []
    for path in files:
        if path.is_dir():
            inside = sorted(path.glob(PLANS))
            plans += inside
            models += [] if inside and not any(path.glob("*.onnx")) else [path]
        else:
            (plans if sidecar_path(path).is_file() or path.match(PLANS) else models).append(path)
    return models, plans


def jobs_of_models(models: Sequence[Path], options: BenchOptions) -> tuple[Job, ...]:
    """ONNX files as they are: those of one task go by their file names; a selector, or a folder, by its tasks.

    Raises:
        UsageError: two for one name, or no such file.
        ArtefactError: a file is not ONNX, or its external data is missing.
    """
    files: dict[str, Path] = {}
    for model in models:
        tasks = tasks_in(model)
        for name, path in tasks.items() if len(tasks) > 1 or model.is_dir() else [(model.stem, model)]:
            if name in files:
                raise UsageError(f"models: '{name}' is in {files[name]} and in {path}; expected each name once")
            files[name] = path
    rehearse({str(path): path for path in files.values()})
    return jobs_of_exports(files, options)


def jobs_of_plans(plans: Sequence[Path], pack: Pack, tasks: Sequence[str], options: BenchOptions) -> tuple[Job, ...]:
    """Every way in which ``plans`` can serve ``tasks``, without and with CUDA graphs; plans of one task go together.

    Args:
        tasks: those to measure; all that the plans have, where empty.

    Raises:
        EnvironmentFault: no GPU, or not the TensorRT that the plans are for.
        UsageError: two plans for the same, or none for a task.
        ArtefactError: a sidecar is damaged.
    """
    ways: dict[tuple[str, str], dict[str, Path]] = {}
    for path in plans:
        sidecar = read_sidecar(path)
        way = ways.setdefault((sidecar.flavour, sidecar.switch), {})
        for task in TensorrtRunner(path, pack.path).tasks:
            if task in way:
                raise UsageError(
                    f"{path}: {sidecar.flavour}, switch {sidecar.switch}: task '{task}' is in {way[task]} as well; "
                    "give one of the two"
                )
            way[task] = path
    for backend, _ in ways:
        load_flavour(backend)
    if ways:
        expect_gpu("measuring an engine", device_of(options.device)[1])
    jobs = []
    for (backend, switch), found in ways.items():
        if missing := [task for task in tasks if task not in found]:
            raise UsageError(f"plans: expected one of {backend}, switch {switch}, with task '{missing[0]}', got none")
        chosen = {task: found[task].absolute() for task in tasks or found}
        files = dict.fromkeys(file for path in chosen.values() for file in (path, sidecar_path(path)))
        if switch in SWITCHED_BY_WEIGHTS:
            files |= dict.fromkeys(_files(pack))
        jobs += [
            Job(
                way="together" if switch == "none" else switch,
                models={task: str(path) for task, path in chosen.items()},
                files=tuple(map(str, files)),
                options=options,
                backend=backend,
                pack=str(pack.path.absolute()),
                cuda_graph=graph,
            )
            for graph in (False, True)
        ]
    return tuple(jobs)


def jobs_of_pack(pack: Pack, names: Sequence[str], folder: Path, options: BenchOptions) -> tuple[Job, ...]:
    """Every way to serve the tasks ``names`` of ``pack`` on the backends that the options name.

    Args:
        folder: where exports and plans are written; keep it until the jobs are done.

    Raises:
        UsageError: backend torch, and a network that packnet cannot build.
        EnvironmentFault: a backend needs a GPU or a package that is not there.
        PackNetError: an export or a build failed.
    """
    for backend in options.backends:
        if backend in FLAVOURS:
            load_flavour(backend)
            expect_gpu(f"backend {backend}: measuring an engine", device_of(options.device)[1])
        elif backend == TORCH:
            _expect_torch(pack)
    jobs: tuple[Job, ...] = ()
    for backend in options.backends:
        if backend == ONNXRUNTIME:
            jobs += _exported(pack, names, folder, options)
        elif backend == TORCH:
            files = tuple(map(str, _files(pack)))
            models = dict.fromkeys(names, str(pack.path))
            jobs += (Job("lend", models, files, options, TORCH, str(pack.path.absolute())),)
        else:
            plans = _built(pack, names, folder, backend, options)
            jobs += jobs_of_plans(plans, pack, names, options)
    return jobs


def _expect_torch(pack: Pack) -> None:
    if importlib.util.find_spec("torch") is None:
        raise missing_package("torch", "train", "backend torch")
    if pack.backbone.arch == "custom":
        raise UsageError("backend torch: this pack's network is not one packnet can build; leave torch out")


def _exported(pack: Pack, names: Sequence[str], folder: Path, options: BenchOptions) -> tuple[Job, ...]:
    """Every task's dense file; and, where there are several tasks, the files of the other layouts."""
    precision = options.precision
    dense_options = ExportOptions(precision=precision)
    dense = {name: export_task(pack, name, folder / f"{name}.onnx", dense_options).files[0] for name in names}
    if len(names) == 1:
        return jobs_of_exports(dense, options)
    shared = {name: folder / "shared" / f"{name}.onnx" for name in names}
    export_shared(pack, names, folder / "shared", ExportOptions(layout="shared", precision=precision))
    export_selector(pack, folder / "selector.onnx", ExportOptions(layout="selector", precision=precision))
    selector = dict.fromkeys(names, folder / "selector.onnx")
    return jobs_of_exports(dense, options, {"shared": shared, "mapped": shared, "selector": selector})


def _built(pack: Pack, names: Sequence[str], folder: Path, backend: str, options: BenchOptions) -> list[Path]:
    """A plan for each switch, and for switch none one for each task; kernels suit the smallest batch best."""
    plans = []
    for switch in options.switch:
        build = BuildOptions(
            backend=backend,
            switch=switch,
            precision=options.precision,
            device=f"cuda:{device_of(options.device)[1]}",
            opt_batch=min(options.batch_sizes),
            max_batch=max(options.batch_sizes),
        )
        path = folder / f"{backend}-{switch}.plan"
        if switch == "none":
            each = {name: path.with_stem(f"{path.stem}-{name}") for name in names}
            plans += [report.plan for report in build_plans(pack, each, build)]
        else:
            plans.append(build_plan(pack, path, build).plan)
    return plans


def _files(pack: Pack) -> list[Path]:
    return [pack.path.absolute() / name for name in (MANIFEST_FILE, GRAPH_FILE, *(task.file for task in pack.tasks))]
