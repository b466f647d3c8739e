"""What one process is to measure; it travels there as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packnet_deploy.bench.options import ONNXRUNTIME, BenchOptions
from packnet_deploy.bench.report import way_label


@dataclass(frozen=True)
class Job:
    """What one process is to measure.

    Attributes:
        strategy: one of ``report.DEFINITIONS``' strategies, repeated in the answer.
        models: the ONNX file or the plan of each task to hold; for PyTorch, the pack.
        files: all files that the tasks are loaded from, each once.
        backend: one of ``options.BACKENDS``.
        pack: for every backend but ONNX Runtime.
        cuda_graph: TensorRT runs each batch as one CUDA graph where it can.
    """

    strategy: str
    models: dict[str, str]
    files: tuple[str, ...]
    options: BenchOptions
    backend: str = ONNXRUNTIME
    pack: str = ""
    cuda_graph: bool = False

    @property
    def label(self) -> str:
        """What it measures, in a few words."""
        return way_label(self.strategy, self.backend, cuda_graph=self.cuda_graph)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        return cls(**{**value, "files": tuple(value["files"]), "options": BenchOptions(**value["options"])})
