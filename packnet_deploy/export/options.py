"""What an export can be asked for: defaults, limits and help. Imports nothing heavy, because ``--help`` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packnet_deploy.errors import UsageError
from packnet_deploy.export.target import ENGINES, ONNXRUNTIME, Target, least_opset

if TYPE_CHECKING:
    from packnet_deploy.export.precision import Precision
    from packnet_deploy.pack.directory import Pack

LAYOUTS = ("dense", "sparse", "shared", "selector")
PRECISION_NAMES = ("fp32", "fp16", "bf16")
DYNAMIC = "dynamic"
OLDEST_OPSET = 17


@dataclass(frozen=True)
class ExportOptions:
    """How to export. Each field's ``help`` is what the command line shows for its flag.

    Raises:
        UsageError: a value out of range, or two that exclude each other; names the option.
    """

    layout: str = field(
        default="dense",
        metadata={
            "help": "dense: a self-contained ONNX per task. sparse: one that stores non-zeros only; smaller where less "
            "than a third of the weights are owned, no faster. shared: a folder of one bank and one small graph per "
            "task. selector: one graph for all tasks, with an input 'task'."
        },
    )
    precision: str = field(
        default="fp32", metadata={"help": "fp32, fp16 or bf16, for weights and activations; images and logits: float32"}
    )
    batch: str = field(default=DYNAMIC, metadata={"help": "images per request: a number, or dynamic"})
    opset: int | None = field(
        default=None, metadata={"help": "the ONNX operator set  [default: the pack's; at least 22 for bf16]"}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "height and width of the images  [default: the pack's]"}
    )
    engine: str = field(
        default=ONNXRUNTIME,
        metadata={"help": "whom a selector is for: onnxruntime, or tensorrt (which has no uint8 comparison)"},
    )
    atol: float = field(default=0.0, metadata={"help": "logits may differ by this much"})
    rtol: float | None = field(
        default=None,
        metadata={"help": "... and by this share of the largest one  [default: 1e-4 fp32, 1e-2 fp16, 5e-2 bf16]"},
    )
    verify: bool = field(
        default=True, metadata={"help": "Check every task in ONNX Runtime before a file gets its name."}
    )

    def __post_init__(self) -> None:
        for name, known in (("layout", LAYOUTS), ("precision", PRECISION_NAMES), ("engine", ENGINES)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.batch != DYNAMIC and not (self.batch.isdecimal() and int(self.batch) > 0):
            raise UsageError(f"batch: expected a number from 1 up, or {DYNAMIC}, got {self.batch!r}")
        import onnx

        newest, least = onnx.defs.onnx_opset_version(), least_opset(self.type, self.engine)
        if self.opset is not None and not OLDEST_OPSET <= self.opset <= newest:
            raise UsageError(f"opset: expected {OLDEST_OPSET} to {newest}, got {self.opset}")
        if self.opset is not None and self.opset < least:
            raise UsageError(f"opset: {self.precision} for {self.engine} needs {least}, got {self.opset}")
        if self.image_size is not None and self.image_size < 1:
            raise UsageError(f"image size: expected 1 or more pixels, got {self.image_size}")
        if self.engine != ONNXRUNTIME and self.layout != "selector":
            raise UsageError(f"engine: only a selector is written for one, got layout {self.layout!r}")
        if self.layout == "sparse" and self.precision == "bf16":
            raise UsageError("precision: ONNX Runtime reads no sparse bf16 tensors; use fp16, or layout dense")
        for name, value in (("atol", self.atol), ("rtol", self.rtol)):
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name}: expected 0 or more, got {value}")

    @property
    def type(self) -> Precision:
        from packnet_deploy.export.precision import PRECISIONS

        return PRECISIONS[self.precision]

    def target(self, pack: Pack) -> Target:
        """What a graph made from ``pack`` is then made for."""
        spec = pack.input if self.image_size is None else pack.input.sized(self.image_size)
        batch = None if self.batch == DYNAMIC else int(self.batch)
        return Target(self.type, spec, batch, self.opset, self.engine)
