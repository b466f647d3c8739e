"""What is being made for, resolved once.

Options (options.py, trt/options.py) are what was asked for, in the user's words; everything below them takes a Target.
Imports nothing heavy, because the options do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packnet_deploy.export.precision import Precision
    from packnet_deploy.pack.inputs import InputSpec

ENGINES = ONNXRUNTIME, TENSORRT = ("onnxruntime", "tensorrt")
TYPED_DEQUANTISING = 19  # the opset from which DequantizeLinear gives other types than float32


@dataclass(frozen=True)
class Target:
    """What a graph is made for.

    Attributes:
        precision: of weights and activations.
        input: the pack's, at the image size asked for.
        batch: images per request; None for any number.
        opset: the operator set; None for the pack's own, or the least that will do.
        engine: who runs it, one of ``ENGINES``.
    """

    precision: Precision
    input: InputSpec
    batch: int | None = None
    opset: int | None = None
    engine: str = ONNXRUNTIME

    @property
    def least_opset(self) -> int:
        return least_opset(self.precision, self.engine)

    def sized(self, spec: InputSpec) -> InputSpec:
        """An input description of the pack or of one of its tasks, at the image size asked for."""
        return spec if spec.shape == self.input.shape else spec.sized(self.input.shape[1])


def least_opset(precision: Precision, engine: str) -> int:
    """The first operator set whose operators take the types of such a graph."""
    return max(precision.opset, TYPED_DEQUANTISING if engine == TENSORRT else 1)
