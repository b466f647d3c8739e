"""What a benchmark run can be asked for: defaults, limits and help in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from packnet_deploy.errors import UsageError
from packnet_deploy.export.options import PRECISION_NAMES
from packnet_deploy.runners.devices import device_of
from packnet_deploy.trt.flavour import FLAVOURS
from packnet_deploy.trt.options import SWITCHES

ONNXRUNTIME, TORCH = "onnxruntime", "torch"
BACKENDS = (ONNXRUNTIME, TORCH, *FLAVOURS)


@dataclass(frozen=True)
class BenchOptions:
    """How to measure. Each field's ``help`` is what the command line shows for its flag.

    Raises:
        UsageError: a value out of range; names the option.
    """

    batch_sizes: tuple[int, ...] = field(
        default=(1, 8, 32), metadata={"help": "images per request; each size is measured on its own"}
    )
    repeats: int = field(default=1000, metadata={"help": "most timed runs of one task at one batch size"})
    seconds: float = field(default=1.0, metadata={"help": "time to spend on one task at one batch size, warm-up aside"})
    warmup: int = field(default=3, metadata={"help": "untimed runs before the timed ones"})
    threads: int | None = field(
        default=None, metadata={"help": "threads of each session (default: ONNX Runtime's own choice)"}
    )
    device: str = field(
        default="auto", metadata={"help": "auto, cpu, cuda or cuda:N; TensorRT takes the first GPU but for cuda:N"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the random images"})
    backends: tuple[str, ...] = field(
        default=(ONNXRUNTIME,), metadata={"help": f"what runs a pack's tasks: {', '.join(BACKENDS)}"}
    )
    switch: tuple[str, ...] = field(
        default=SWITCHES, metadata={"help": "how plans built for TensorRT become another task; none: a plan per task"}
    )
    precision: str = field(default="fp32", metadata={"help": "of exports and of built plans: fp32, fp16 or bf16"})

    def __post_init__(self) -> None:
        sizes = tuple(self.batch_sizes)
        if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
            raise UsageError(f"batch sizes: expected different numbers from 1 up, got {list(sizes)}")
        object.__setattr__(self, "batch_sizes", sizes)  # a list, as JSON gives it, is as good
        for name, least in (("repeats", 1), ("warmup", 0), ("threads", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name}: expected {least} or more, got {value}")
        if not 0 < self.seconds < float("inf"):
            raise UsageError(f"seconds: expected a time above 0, got {self.seconds}")
        for name, known in (("backends", BACKENDS), ("switch", SWITCHES)):
            values = tuple(dict.fromkeys(getattr(self, name)))
            if odd := [value for value in values if value not in known] or ([] if values else ["nothing"]):
                raise UsageError(f"{name}: expected some of {', '.join(known)}, got {odd[0]!r}")
            object.__setattr__(self, name, values)
        device_of(self.device)  # or it is none
        if self.precision not in PRECISION_NAMES:
            raise UsageError(f"precision: expected one of {', '.join(PRECISION_NAMES)}, got {self.precision!r}")
