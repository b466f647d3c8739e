"""``export_task``: one task of a pack as an ONNX model, checked before it appears under its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_deploy.errors import CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export.bind import TaskModel, bind_task
from packnet_deploy.export.layouts import LAYOUTS, Laid, SparseTensor, lay_out
from packnet_deploy.export.parity import Difference, probe_difference
from packnet_deploy.export.wire import MAX_BYTES, external_buffers, model_buffers, size_of
from packnet_deploy.export.write import move_into_place, staging_folder, write_buffers

if TYPE_CHECKING:
    from packnet_deploy.pack.directory import Pack


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with the pack."""

    task: str
    layout: str
    files: tuple[Path, ...]  # the model; its data file after it, where there is one
    bytes: int  # of all files
    dense_bytes: int  # what the tensors alone would take in the dense layout
    sparse_tensors: int  # how many tensors are stored as values and positions
    operators: dict[str, int]  # how often each operator occurs in the graph
    difference: Difference | None  # from the pack's probe logits; None when the check was left out

    @property
    def note(self) -> str:
        """What the user should know about the layout; empty where there is nothing to say."""
        if self.layout == "sparse" and not self.sparse_tensors:
            return "sparse saves nothing here: no packed weight is less than a third full; the file is a dense one"
        if self.layout == "sparse":
            return (
                f"{self.sparse_tensors} tensors sparse, {self.bytes / self.dense_bytes:.0%} of the dense bytes; "
                "ONNX Runtime reads this layout, TensorRT does not, and neither runs faster for it"
            )
        return ""


def export_task(
    pack: Pack,
    task: str,
    path: Path,
    *,
    layout: str = "dense",
    verify: bool = True,
    max_bytes: int = MAX_BYTES,
) -> ExportReport:
    """Write ``task`` to ``path`` as an ONNX model: input ``images`` ``[batch, c, h, w]``, output ``logits``.

    The file is complete and checked in ONNX Runtime against the pack's probe logits before it takes its name; on
    any failure nothing is left behind and a file already there is untouched. The same pack gives the same bytes.

    Args:
        layout: ``dense`` or ``sparse`` (packnet_deploy.export.layouts).
        verify: False skips the check.
        max_bytes: a dense model larger than this keeps its tensors in ``<path>.data`` beside it. That file is moved
            into place just before the model: a crash between the two leaves an older model with newer data.

    Raises:
        UsageError: unknown task or layout, ``path`` is a folder, or a sparse model larger than ``max_bytes``.
        ArtefactError: the pack is damaged, or ONNX Runtime refuses the model.
        EnvironmentFault: the folder of ``path`` does not exist.
        CheckFailed: the model's logits differ from the pack's by more than the tolerance.
        OSError: the disk is full, or the folder is not writable.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if path.is_dir():
        raise UsageError(f"{path}: expected a file name, got a folder; say {path / f'{task}.onnx'}")
    if not path.parent.is_dir():
        raise EnvironmentFault(f"{path.parent}: no such folder; make it first")
    bound = bind_task(pack, task, layout)
    operators, dense_bytes = bound.operators, sum(array.nbytes for array in bound.tensors.values())
    tensors = lay_out(bound.tensors, {spec.name for spec in pack.packable}, layout)
    sparse_tensors = sum(isinstance(tensor, SparseTensor) for tensor in tensors.values())

    with staging_folder(path) as folder:
        files = _write(bound, tensors, folder / path.name, max_bytes)
        written = sum(file.stat().st_size for file in files)
        probe_logits = bound.probe_logits
        del bound, tensors  # ONNX Runtime is about to load its own copy
        difference = probe_difference(files[0], pack.input, probe_logits) if verify else None
        if difference is not None and not difference.passes:
            raise CheckFailed(f"task '{task}': the exported model is wrong, so nothing was kept: {difference}")
        move_into_place(files[::-1], path.parent)
    return ExportReport(
        task=task,
        layout=layout,
        files=tuple(path.parent / file.name for file in files),
        bytes=written,
        dense_bytes=dense_bytes,
        sparse_tensors=sparse_tensors,
        operators=operators,
        difference=difference,
    )


def _write(bound: TaskModel, tensors: dict[str, Laid], path: Path, max_bytes: int) -> list[Path]:
    """Write the model, and its data beside it if it must; the model's path comes first."""
    buffers = model_buffers(bound.model, tensors)
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
    buffers, data = external_buffers(bound.model, arrays, data_file.name)
    write_buffers(data_file, data)
    write_buffers(path, buffers)
    return [path, data_file]
