"""Exports of a single file, checked before it appears under its name: one task's, or the selector of all tasks.

Folders, the ``shared`` layout, are ``shared``'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import ModelProto

from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.export.bind import BoundModel, bind_task
from packnet_deploy.export.check import check_export
from packnet_deploy.export.deploy_bank import load_deploy_bank
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.report import ExportReport
from packnet_deploy.export.selector import bind_selector
from packnet_deploy.export.skeleton import expected_logits, logits_at_size
from packnet_deploy.export.target import Target
from packnet_deploy.export.write import (
    MAX_BYTES,
    Laid,
    SparseTensor,
    external_buffers,
    lay_out_sparse,
    model_buffers,
    move_into_place,
    write_buffers,
)
from packnet_deploy.pack.atomic import staging_folder
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import Float32Array
from packnet_deploy.runners.wire import size_of

DENSE = ExportOptions()

Expected = Mapping[str, Float32Array]  # logits, by task


def export_task(
    pack: Pack, task: str, path: Path, options: ExportOptions = DENSE, *, max_bytes: int = MAX_BYTES
) -> ExportReport:
    """Write ``task`` to ``path`` as an ONNX model: input ``images`` ``[batch, c, h, w]``, output ``logits``.

    The file is complete and checked in ONNX Runtime against the pack's probe logits before it takes its name; on
    any failure nothing is left behind and a file already there is untouched. The same pack gives the same bytes.

    Args:
        options: layout ``dense`` or ``sparse``.
        max_bytes: a dense model larger than this keeps its tensors in ``<path>.data`` beside it. That file is moved
            into place just before the model: a crash between the two leaves an older model with newer data.

    Raises:
        UsageError: unknown task, ``path`` is a folder, a sparse model larger than ``max_bytes``, or a value that does
            not fit the precision.
        ArtefactError: the pack is damaged, or ONNX Runtime refuses the model.
        EnvironmentFault: the folder of ``path`` does not exist.
        CheckFailed: the model's logits differ from the pack's by more than the tolerance.
        OSError: the disk is full, or the folder is not writable.
    """
    if options.layout not in ("dense", "sparse"):
        raise UsageError(f"layout: a file of one task is dense or sparse, got {options.layout!r}")
    _expect_file_name(path, f"{task}.onnx")
    target = options.target(pack)
    bound, expected = _bound_task(pack, task, target, options)
    dense_bytes = sum(array.nbytes for array in bound.tensors.values())
    return _export(pack, bound, (task,), expected, path, target, options, dense_bytes, max_bytes)


def export_selector(pack: Pack, path: Path, options: ExportOptions, *, max_bytes: int = MAX_BYTES) -> ExportReport:
    """Write all tasks to ``path`` as one ONNX model: inputs ``images`` and ``task`` (int32 ``[1]``, 1-based).

    The output ``logits`` is as wide as the widest head, -inf where the task has no such class. In every other
    respect this is ``export_task``.
    """
    if options.layout != "selector":
        raise UsageError(f"layout: expected selector, got {options.layout!r}")
    if not pack.tasks:
        raise UsageError(f"{pack.path}: no task to export yet; train one first")
    _expect_file_name(path, "selector.onnx")
    tasks = [entry.name for entry in pack.tasks]
    target = options.target(pack)
    with pack.opened() as opened:
        bank = load_deploy_bank(opened, target)
        expected = expected_logits(opened, tasks, target) if options.verify else {}
    bound, dense_bytes = bind_selector(pack, bank, target), bank.dense_bytes(tasks)
    return _export(pack, bound, tasks, expected, path, target, options, dense_bytes, max_bytes)


def _bound_task(pack: Pack, task: str, target: Target, options: ExportOptions) -> tuple[BoundModel, Expected]:
    """The model, and what it must answer; the pack's own weights are gone when this returns."""
    weights = pack.load_task(task)
    expected = {task: logits_at_size(pack, weights, target)} if options.verify else {}
    return bind_task(pack, task, weights, target, options.layout), expected


def _expect_file_name(path: Path, example: str) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: expected a file name, got a folder; say {path / example}")
    if not path.parent.is_dir():
        raise EnvironmentFault(f"{path.parent}: no such folder; make it first")


def _export(
    pack: Pack,
    bound: BoundModel,
    tasks: Sequence[str],
    expected: Expected,
    path: Path,
    target: Target,
    options: ExportOptions,
    dense_bytes: int,
    max_bytes: int,
) -> ExportReport:
    """Lay out, write, check, move into place. ``expected``: what ``tasks`` must answer; empty: nothing is checked."""
    operators = bound.operators
    tensors: Mapping[str, Laid] = bound.tensors
    if options.layout == "sparse":
        tensors = lay_out_sparse(bound.tensors, {spec.name for spec in pack.packable})
    sparse_tensors = sum(isinstance(tensor, SparseTensor) for tensor in tensors.values())
    with staging_folder(path) as folder:
        files = _write(bound.model, tensors, folder / path.name, max_bytes)
        written = sum(file.stat().st_size for file in files)
        del bound, tensors  # ONNX Runtime is about to load its own copy
        differences = check_export(files[0], pack, expected, target, options) if expected else {}
        move_into_place(files[::-1], path.parent)
    return ExportReport(
        options=options,
        tasks=tuple(tasks),
        files=tuple(path.parent / file.name for file in files),
        bytes=written,
        dense_bytes=dense_bytes,
        operators=operators,
        differences=differences,
        sparse_tensors=sparse_tensors,
    )


def _write(model: ModelProto, tensors: Mapping[str, Laid], path: Path, max_bytes: int) -> list[Path]:
    """Write the model, and its data beside it if it must; the model's path comes first."""
    buffers = model_buffers(model, tensors)
    if size_of(buffers) <= max_bytes:
        write_buffers(path, buffers)
        return [path]
    arrays = {name: tensor for name, tensor in tensors.items() if not isinstance(tensor, SparseTensor)}
    if len(arrays) < len(tensors):
        raise UsageError(
            f"layout sparse: the model takes {size_of(buffers):,} bytes, at most {max_bytes:,} fit one ONNX file; "
            "use --layout dense, which can keep its data beside the model"
        )
    data_file = path.with_name(f"{path.name}.data")
    buffers, data = external_buffers(model, arrays, data_file.name)
    write_buffers(data_file, data)
    write_buffers(path, buffers)
    return [path, data_file]
