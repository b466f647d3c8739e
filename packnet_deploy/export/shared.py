"""The ``shared`` layout: a folder with one bank, one map of ranks and a small graph for each task.

    bank.bin      the bank of every task of the pack, tensor after tensor
    owners.bin    uint8 per weight: its rank, which is its owner's index minus one, 255 where it is free
    TASK.onnx     the graph, with the task's head, biases, normalisation and mask: weight = bank · (rank <= task - 1)

ONNX Runtime computes the mask when it loads a graph, so a task runs as fast as its dense export. The folder grows:
new bank, then ranks, then the new graphs, each by rename. Between any two of these steps, and whichever file of
which step a reader sees, every older graph gives its own logits: what it owns never changes, and a weight that is new
in one of the files is free, or of a later task, in the other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.bind import BoundModel
from packnet_deploy.export.check import check_export
from packnet_deploy.export.deploy_bank import DeployBank, DeployTask, load_deploy_bank
from packnet_deploy.export.mask_nodes import bank_name, mask_weights_in_place, rank_name
from packnet_deploy.export.metadata import describe_task_in_place
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.precision import type_graph_in_place, typed_tensors
from packnet_deploy.export.report import ExportReport
from packnet_deploy.export.skeleton import expected_logits
from packnet_deploy.export.target import Target
from packnet_deploy.export.write import data_file, model_buffers, move_into_place, write_buffers
from packnet_deploy.pack.atomic import locked, staging_folder, sync_directory
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.comparison import Difference
from packnet_deploy.runners.exported import metadata_of, read_model

BANK_FILE = "bank.bin"
RANK_FILE = "owners.bin"
TASK_RANK = "task/owner"


def export_shared(pack: Pack, tasks: Sequence[str], folder: Path, options: ExportOptions) -> ExportReport:
    """Write ``tasks`` into ``folder``, a new one or one made from this pack before it grew.

    Bank and ranks hold every task of the pack, so their bytes do not depend on ``tasks``. All graphs of the grown
    folder, older ones included, are checked against the pack before the first file changes.

    Raises:
        UsageError: an unknown task; ``folder`` is a file, or its graphs have another precision.
        ArtefactError: a graph in the folder is not of this pack; or as for ``export_task``.
        EnvironmentFault: the folder above does not exist, or another process is writing to this one.
        CheckFailed: a task's logits differ from the pack's by more than the tolerance.
        OSError: the disk is full, or the folder is not writable.
    """
    if options.layout != "shared":
        raise UsageError(f"layout: expected shared, got {options.layout!r}")
    for task in tasks:
        pack.task(task)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder, got a file; layout shared writes several files")
    if not folder.parent.is_dir():
        raise EnvironmentFault(f"{folder.parent}: no such folder; make it first")
    target = options.target(pack)
    with contextlib.ExitStack() as stack:
        if folder.exists():
            stack.enter_context(locked(folder))
        older = _older_graphs(folder, pack, options, tasks)
        with pack.opened() as opened:
            bank = load_deploy_bank(opened, target)
            expected = expected_logits(opened, [*tasks, *older], target) if options.verify else {}
        staging = stack.enter_context(staging_folder(folder))
        operators = _write(pack, bank, tasks, staging, target)
        for task, path in older.items():
            shutil.copyfile(path, staging / f"{task}.onnx")
        dense_bytes = bank.dense_bytes({*tasks, *older})
        del bank  # ONNX Runtime is about to load its own copy
        differences: dict[str, Difference] = {}
        for task, logits in expected.items():
            differences |= check_export(staging / f"{task}.onnx", pack, {task: logits}, target, options)
        names = [BANK_FILE, RANK_FILE, *(f"{task}.onnx" for task in tasks)]
        _appear([staging / name for name in names], folder)
    held = [entry.name for entry in pack.tasks if entry.name in {*tasks, *older}]
    files = tuple(folder / name for name in (*(f"{task}.onnx" for task in held), BANK_FILE, RANK_FILE))
    return ExportReport(
        options=options,
        tasks=tuple(held),
        files=files,
        bytes=sum(file.stat().st_size for file in files),
        dense_bytes=dense_bytes,
        operators=operators,
        differences=differences,
    )


def _write(pack: Pack, bank: DeployBank, tasks: Sequence[str], folder: Path, target: Target) -> dict[str, int]:
    """Bank, ranks and the graphs of ``tasks``; returns the operators of the first graph."""
    data = data_file({bank_name(name): array for name, array in bank.values.items()}, BANK_FILE)
    ranks = data_file({rank_name(name): array for name, array in bank.ranks.items()}, RANK_FILE)
    write_buffers(folder / BANK_FILE, data.buffers)
    write_buffers(folder / RANK_FILE, ranks.buffers)
    operators: dict[str, int] = {}
    for task in bank.tasks:
        if task.entry.name in tasks:
            bound = _bind(pack, bank, task, target)
            operators = operators or bound.operators
            buffers = model_buffers(bound.model, bound.tensors, (data, ranks))
            write_buffers(folder / f"{task.entry.name}.onnx", buffers)
    return operators


def _bind(pack: Pack, bank: DeployBank, task: DeployTask, target: Target) -> BoundModel:
    """The graph of one task and the small tensors that lie in it."""
    model = ModelProto()
    model.CopyFrom(bank.model)
    mask_weights_in_place(model.graph, bank.values, TASK_RANK, target.engine)
    describe_task_in_place(model, pack, "shared", target.precision, task.entry, task.classes, task.input)
    type_graph_in_place(model, target.precision)
    tensors: dict[str, npt.NDArray[Any]] = {**task.tensors, TASK_RANK: np.array(task.entry.index - 1, np.uint8)}
    return BoundModel(model, typed_tensors(tensors, target.precision))


def _older_graphs(folder: Path, pack: Pack, options: ExportOptions, tasks: Sequence[str]) -> dict[str, Path]:
    """The graphs in ``folder`` that stay as they are, by task, each known to read the new bank as it read the old."""
    older = {}
    for path in sorted(folder.glob("*.onnx")) if folder.exists() else ():
        said = metadata_of(read_model(path))
        task = said.get("task", "")
        if said.get("packnet.layout") != "shared" or path.name != f"{task}.onnx":
            raise ArtefactError(
                f"{path}: expected a graph of layout shared, got another; export to a folder of its own"
            )
        if said.get("packnet.precision") != options.precision:
            raise UsageError(
                f"{path}: its bank is {said.get('packnet.precision')}, asked for is {options.precision}; "
                "a folder has one bank, so export to another"
            )
        known = {entry.name: entry.sha256 for entry in pack.tasks}
        if said.get("packnet.delta_sha256") != known.get(task) or not known.get(task):
            raise ArtefactError(
                f"{path}: made from delta {said.get('packnet.delta_sha256')}, {pack.path} has "
                f"{known.get(task, 'no such task')}; it is of another pack, or of a later state of this one"
            )
        if task not in tasks:
            older[task] = path
    return older


def _appear(files: Sequence[Path], folder: Path) -> None:
    """A new folder appears whole; in one that is there the files change one after the other."""
    if folder.exists():
        move_into_place(files, folder)
        return
    whole = files[0].parent / "whole"
    whole.mkdir()
    move_into_place(files, whole)
    os.rename(whole, folder)
    sync_directory(folder.parent)
