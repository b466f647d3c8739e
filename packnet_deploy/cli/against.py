"""``packnet verify --against``: a pack's exports compared with PyTorch or with the pack itself, on images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packnet_deploy.export.options import ExportOptions
    from packnet_deploy.pack import Pack
    from packnet_deploy.runners.comparison import Agreement
    from packnet_deploy.runners.contract import Float32Array, Runner

BATCH = 32


def compare(pack: Pack, tasks: list[str], against: str, data: str | None, options: ExportOptions) -> list[Agreement]:
    """Export ``tasks`` to a temporary folder and compare their answers with those of ``against``.

    Args:
        against: ``torch``, or ``onnxrt`` for the pack's own graph.
        data: whose test images to compare on; the probe batch where None.
    """
    from packnet_deploy.runners.comparison import agreement
    from packnet_deploy.runners.onnx import OnnxRunner
    from packnet_deploy.runners.pack import PackRunner

    rtol = options.type.tolerance
    whole = options.layout in ("selector", "shared")  # these hold every task
    with tempfile.TemporaryDirectory() as folder, pack.opened(None if whole else tasks) as opened:
        models = _exported(opened, tasks, Path(folder), options)
        with OnnxRunner(models, rehearsed=True) as tested:
            if against == "onnxrt":
                with PackRunner(opened) as reference:
                    return [agreement(tested, reference, task, _images(opened, task, data), rtol) for task in tasks]
            found = []
            for task in tasks:
                with _torch_runner(opened, task) as module:
                    found.append(agreement(tested, module, task, _images(opened, task, data), rtol))
            return found


def _exported(pack: Pack, tasks: list[str], folder: Path, options: ExportOptions) -> dict[str, Path]:
    from packnet_deploy.export.api import export_selector, export_task
    from packnet_deploy.export.shared import export_shared

    if options.layout == "selector":
        report = export_selector(pack, folder / "selector.onnx", options)
        return dict.fromkeys(tasks, report.files[0])
    if options.layout == "shared":
        export_shared(pack, tasks, folder / "shared", options)
        return {task: folder / "shared" / f"{task}.onnx" for task in tasks}
    return {task: export_task(pack, task, folder / f"{task}.onnx", options).files[0] for task in tasks}


@contextmanager
def _torch_runner(pack: Pack, task: str) -> Iterator[Runner]:
    from packnet_deploy.errors import UsageError, missing_package

    try:
        from packnet_deploy.training.backbones import build
        from packnet_deploy.training.runner import TorchRunner
    except ImportError as error:
        raise missing_package("torch", "train", "comparing with PyTorch") from error
    if pack.backbone.arch == "custom":
        raise UsageError("--against torch: this pack's network is not one packnet can build; use --against onnxrt")
    module, head = build(pack.backbone.arch, pack.task(task).classes)
    with TorchRunner(module, lambda name: pack.load_task(name).tensors, tasks=[task], head=head) as runner:
        yield runner


def _images(pack: Pack, task: str, data: str | None) -> Iterator[Float32Array]:
    if data is None:
        from packnet_deploy.pack import probe_batch

        yield probe_batch(pack.input)
        return
    from packnet_deploy.data import open_split
    from packnet_deploy.data.batches import batches

    _, split = open_split(data)
    for images, _ in batches(split, pack.task_input(task), BATCH):
        yield images
