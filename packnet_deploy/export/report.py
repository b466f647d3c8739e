"""What an export wrote, and how it compares with the pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.write import BYTES_PER_POSITION
from packnet_deploy.runners.comparison import Difference, worst


@dataclass(frozen=True)
class ExportReport:
    """One artefact: a file of one task (dense, sparse), a file of all tasks (selector), or a folder (shared).

    Attributes:
        files: the model, or every model of a folder, first; data files after.
        bytes: of all files.
        dense_bytes: what the tensors alone would take with one dense export for each of ``tasks``.
        sparse_tensors: how many tensors are stored as values and positions.
        operators: how often each operator occurs in the (first) graph.
        differences: from the pack's probe logits, by task; empty when the check was left out.
    """

    options: ExportOptions
    tasks: tuple[str, ...]
    files: tuple[Path, ...]
    bytes: int
    dense_bytes: int
    operators: Mapping[str, int]
    differences: Mapping[str, Difference]
    sparse_tensors: int = 0

    @property
    def difference(self) -> Difference | None:
        """The largest, as a share of what is allowed; None when the check was left out."""
        return worst(self.differences.values())

    @property
    def note(self) -> str:
        """What the user should know about the layout; empty where there is nothing to say."""
        share, layout = f"{self.bytes / self.dense_bytes:.0%}", self.options.layout
        if layout == "sparse" and not self.sparse_tensors:
            itemsize = self.options.type.dtype.itemsize
            return (
                "sparse saves nothing here: no packed weight is less than "
                f"{itemsize / (itemsize + BYTES_PER_POSITION):.0%} full; the file is a dense one"
            )
        if layout == "sparse":
            return (
                f"{self.sparse_tensors} tensors sparse, {share} of the dense bytes; "
                "ONNX Runtime reads this layout, TensorRT does not, and neither runs faster for it"
            )
        if layout == "shared":
            return f"{share} of the bytes of {len(self.tasks)} dense exports; ONNX Runtime folds the masks at load"
        if layout == "selector":
            return (
                f"{share} of the bytes of {len(self.tasks)} dense exports; no switching, but the mask is computed at "
                "each run: packnet bench shows what that costs here"
            )
        return ""
