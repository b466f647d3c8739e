"""A predictor from what lies at a path: a pack, an export, a folder of exports, or a TensorRT plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError, missing_package
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.manifest import MANIFEST_FILE
from packnet_deploy.predict.predictor import Predictor, TaskFacts
from packnet_deploy.runners.contract import check_task
from packnet_deploy.runners.devices import device_of

ENGINES = ONNX, TORCH = ("onnx", "torch")


def load(
    path: str | os.PathLike[str],
    *,
    pack: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] | None = None,
    engine: str = ONNX,
    device: str = "cpu",
    threads: int | None = None,
) -> Predictor:
    """Open what lies at ``path`` for predictions.

        with packnet_deploy.load("birds.pack") as birds:
            print(birds.predict("photo.jpg", "flowers").name)

    Args:
        path: a pack; an ONNX file of ``packnet export``, or a folder of them; a plan of ``packnet build``.
        pack: of a plan, the one it was built from, or grown from that.
        tasks: those that will be asked for; all where None. Fewer of a pack are opened faster.
        engine: what runs a pack: ``onnx``, ONNX Runtime, or ``torch``, PyTorch. A plan is TensorRT's, always.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` (CUDA where it starts). A plan runs on the first GPU but for
            ``cuda:N``.
        threads: of ONNX Runtime or PyTorch; their own choice where None.

    Raises:
        EnvironmentFault: nothing is there; a package, or the device, is not to be had.
        UsageError: an unknown task, engine or device, or a plan without a pack.
        ArtefactError: a file is damaged, or does not say its classes and its input.
    """
    path = Path(path)
    if engine not in ENGINES:
        raise UsageError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    if not path.exists():
        raise EnvironmentFault(f"{path}: expected a pack, an ONNX file or a plan, got nothing: no such file")
    if (path / MANIFEST_FILE).exists():
        opened = Pack.open(path)
        names = [entry.name for entry in opened.tasks] if tasks is None else [opened.task(name).name for name in tasks]
        if not names:
            raise UsageError(f"{path}: expected a task to ask, the pack has none yet; train one with packnet train")
        run_by = _in_torch if engine == TORCH else _of_pack
        return run_by(opened, tuple(names), device, threads)
    if engine == TORCH:
        raise UsageError(f"engine: only a pack runs in PyTorch, got {path}; leave it out")
    if not _is_plan(path, pack):
        return _of_exports(path, tasks, device, threads)
    if pack is None:
        raise UsageError(f"{path}: a plan runs with the pack it was built from; say which one: pack=")
    return _of_plan(path, Path(pack), f"cuda:{device_of(device)[1]}")


def _is_plan(path: Path, pack: str | os.PathLike[str] | None) -> bool:
    """Whether it is a plan, as far as its name and what lies beside it tell; else it is ONNX, or a folder of that."""
    from packnet_deploy.trt.sidecar import sidecar_path

    if path.is_dir() or path.suffix == ".onnx":
        return False
    return pack is not None or path.suffix == ".plan" or sidecar_path(path).is_file()


def _of_pack(pack: Pack, tasks: tuple[str, ...], device: str, threads: int | None) -> Predictor:
    from packnet_deploy.export.runner import ExportingRunner

    with ExitStack() as held:
        runner = held.enter_context(ExportingRunner(pack, tasks, device, threads))
        return Predictor(runner, lambda task: _facts(runner.pack, task), held.pop_all())


def _in_torch(pack: Pack, tasks: tuple[str, ...], device: str, threads: int | None) -> Predictor:
    if pack.backbone.arch == "custom":
        raise UsageError(f"engine: {pack.path}: its network is not one packnet can build in PyTorch; use onnx")
    try:
        from packnet_deploy.training.backbones import build
        from packnet_deploy.training.runner import TorchRunner, start_torch
    except ImportError as error:
        raise missing_package("torch", "train", "running a task in PyTorch") from error
    where = start_torch(device, threads)
    module, head = build(pack.backbone.arch, pack.task(tasks[0]).classes)
    with ExitStack() as held:
        runner = held.enter_context(
            TorchRunner(module, lambda name: pack.load_task(name).tensors, tasks=tasks, head=head, device=where)
        )
        return Predictor(runner, lambda task: _facts(pack, task), held.pop_all())


def _of_exports(path: Path, tasks: Sequence[str] | None, device: str, threads: int | None) -> Predictor:
    from packnet_deploy.runners.exported import tasks_in
    from packnet_deploy.runners.onnx import OnnxRunner

    models = tasks_in(path)
    for task in tasks or ():
        check_task(task, models)
    with ExitStack() as held:
        runner = held.enter_context(OnnxRunner({task: models[task] for task in tasks or models}, device, threads))

        def facts(task: str) -> TaskFacts:
            classes, spec = runner.classes(task), runner.preprocessing(task)
            if classes is None or spec is None:
                raise ArtefactError(
                    f"{models[task]}: expected its metadata to say 'classes' and 'preprocessing', they do not; "
                    "write it with packnet export"
                )
            return TaskFacts(classes, spec, exactly=runner.input_shape(task)[0])

        return Predictor(runner, facts, held.pop_all())


def _of_plan(plan: Path, pack: Path, device: str) -> Predictor:
    from packnet_deploy.trt.runner import TensorrtRunner

    opened = Pack.open(pack)
    with ExitStack() as held:
        runner = held.enter_context(TensorrtRunner(plan, pack, device=device))
        return Predictor(runner, lambda task: _facts(opened, task), held.pop_all())


def _facts(pack: Pack, task: str) -> TaskFacts:
    header = pack.header(task)
    return TaskFacts(header.classes, header.input or pack.input)
