"""What a build can be asked for: the options, with limits and help, and the rarer settings that ``--config FILE`` has.

Imports nothing heavy, because ``--help`` reads it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.options import PRECISION_NAMES
from packnet_deploy.export.target import ONNXRUNTIME, TENSORRT, Target
from packnet_deploy.trt.flavour import AUTO, FLAVOURS

if TYPE_CHECKING:
    from packnet_deploy.pack.directory import Pack

SWITCHES = ("refit", "bind", "selector", "none")
SPARSITY = ("auto", "off", "require")
CHOICES = {"backend": (AUTO, *FLAVOURS), "switch": SWITCHES, "precision": PRECISION_NAMES, "sparsity": SPARSITY}

# The settings of --config FILE are the rarer ones of TensorRT's builder, by the names that TensorRT itself gives them.
# Whole numbers, with the least that is legal.
NUMBERS = {
    "builder_optimization_level": 0,
    "avg_timing_iterations": 1,
    "max_num_tactics": -1,
    "max_aux_streams": 0,
    "l2_limit_for_tiling": -1,
}
# Members of TensorRT's enumerations, by the setting's name.
NAMED = {"profiling_verbosity": "ProfilingVerbosity", "tiling_optimization_level": "TilingOptimizationLevel"}
FLAGS = "flags"  # a list of BuilderFlag's members, those aside that packnet sets itself
TF32 = "TF32"  # products of fp32 with fp16's ten bits; TensorRT's default, ours only when asked for
HOST_CODE_FLAGS = ("VERSION_COMPATIBLE",)  # put code of the host into the plan, which packnet never lets TensorRT run
OWN_FLAGS = (
    *("REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL", "STRIP_PLAN", "SPARSE_WEIGHTS", "WEIGHT_STREAMING"),
    "REQUIRE_USER_ALLOCATION",
)


@dataclass(frozen=True)
class BuildOptions:
    """How to build a plan. Each field's ``help`` is what the command line shows for its flag.

    Raises:
        UsageError: a value out of range, or two that exclude each other; names the option.
    """

    backend: str = field(
        default=AUTO,
        metadata={"help": f"the library that builds it: {', '.join(FLAVOURS)}, or auto: the first that is installed"},
    )
    switch: str = field(
        default="refit",
        metadata={
            "help": "how the engine becomes another task. refit: it is given that task's weights (building takes a "
            "GPU). bind: weights are inputs, in one buffer that is rewritten; no sparse kernels. selector: the task is "
            "an input, weights are masked at each run. none: a plan per task."
        },
    )
    precision: str = field(
        default="fp32", metadata={"help": "fp32, fp16 or bf16, for weights and activations; images and logits: float32"}
    )
    min_batch: int = field(default=1, metadata={"help": "the fewest images a request may hold"})
    opt_batch: int = field(default=1, metadata={"help": "the images a request holds as a rule; kernels suit it best"})
    max_batch: int = field(default=8, metadata={"help": "the most images a request may hold"})
    batch_profiles: tuple[int, ...] = field(
        default=(), metadata={"help": "a number of images with kernels of their own, within these (not for refit)"}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "height and width of the images  [default: the pack's]"}
    )
    classes: int = field(
        default=0, metadata={"help": "logits of the engine, with room for later tasks  [default: the widest head's]"}
    )
    sparsity: str = field(
        default="auto",
        metadata={
            "help": "auto: sparse kernels where all tasks together keep to 2:4 and TensorRT finds them faster. off: "
            "none. require: refuse unless some layer keeps to it."
        },
    )
    workspace: int | None = field(
        default=None, metadata={"help": "MiB of GPU memory a kernel may use for itself  [default: all there is]"}
    )
    timing_cache: Path | None = field(
        default=None, metadata={"help": "a file of kernel timings, read and brought up to date"}
    )
    compute_capability: tuple[str, ...] = field(
        default=(), metadata={"help": "a GPU to build for, such as 8.6 (tensorrt-rtx)  [default: the GPU here, or all]"}
    )
    device: str = field(default="cuda", metadata={"help": "the GPU to build and check on: cuda, the first, or cuda:N"})
    channels_last: bool = field(
        default=False,
        metadata={
            "help": "With bind: filters lie as kernels read them, and no inference lays them out anew. Python alone "
            "runs such plans."
        },
    )
    hardware_compatible: bool = field(
        default=False, metadata={"help": "Run on every GPU from Ampere on, not on this kind alone; slower (tensorrt)."}
    )
    config: Path | None = field(default=None, metadata={"help": "a TOML file with rarer settings (docs/engines.md)"})
    rtol: float | None = field(
        default=None,
        metadata={"help": "logits may differ by this share of the largest one  [default: by precision and depth]"},
    )
    verify: bool = field(
        default=True, metadata={"help": "After a build on a GPU, hold every task's logits against ONNX Runtime's."}
    )

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            if getattr(self, name) not in values:
                raise UsageError(f"{name}: expected one of {', '.join(values)}, got {getattr(self, name)!r}")
        self._expect_batches()
        if self.channels_last and self.switch != "bind":
            raise UsageError(f"channels last: TensorRT lays weights out itself with switch {self.switch}; leave it out")
        if self.workspace is not None and self.workspace < 1:
            raise UsageError(f"workspace: expected 1 MiB or more, got {self.workspace}")
        if self.rtol is not None and not 0 <= self.rtol < float("inf"):
            raise UsageError(f"rtol: expected 0 or more, got {self.rtol}")
        if self.classes < 0:
            raise UsageError(f"classes: expected 0 or more, got {self.classes}")
        if self.classes and self.switch not in ("refit", "bind"):
            raise UsageError(f"classes: no task can be added to a plan with switch {self.switch}; leave it out")
        if self.sparsity == "require" and self.switch in ("bind", "selector"):
            raise UsageError(
                f"sparsity require: with switch {self.switch} weights are not known when kernels are chosen, so none "
                "can be sparse; use --switch refit or none"
            )
        if self.hardware_compatible and self.backend == "tensorrt-rtx":
            raise UsageError("hardware compatible: tensorrt-rtx builds for GPUs that are named: --compute-capability")
        if self.compute_capability and self.backend == "tensorrt":
            raise UsageError("compute capability: a tensorrt plan fits the GPU it is built on; use tensorrt-rtx")

    def _expect_batches(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise UsageError(
                f"batch: expected 1 <= min <= opt <= max, got {self.min_batch}, {self.opt_batch} and {self.max_batch}"
            )
        if odd := [size for size in self.batch_profiles if not self.min_batch <= size <= self.max_batch]:
            raise UsageError(
                f"batch profile: expected {self.min_batch} to {self.max_batch} images, as the plan takes, got {odd[0]}"
            )
        if self.batch_profiles and self.switch == "refit":
            raise UsageError(
                "batch profile: TensorRT refits engines of one optimisation profile alone; use --switch bind"
            )

    def target(self, pack: Pack) -> Target:
        """What the graph that TensorRT is given is made for."""
        from packnet_deploy.export.precision import PRECISIONS

        spec = pack.input if self.image_size is None else pack.input.sized(self.image_size)
        return Target(PRECISIONS[self.precision], spec, engine=TENSORRT if self.switch == "selector" else ONNXRUNTIME)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; what TensorRT makes of them is ``apply_settings``' business.

    Raises:
        EnvironmentFault: it cannot be read.
        ArtefactError: it is not TOML.
        UsageError: an unknown setting.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        settings = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise EnvironmentFault(f"--config {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"--config {path}: not TOML: {error}") from error
    known = (*NUMBERS, *NAMED, FLAGS)
    if unknown := [name for name in settings if name not in known]:
        raise UsageError(f"--config {path}: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return settings


def asks_for_tf32(settings: Mapping[str, Any]) -> bool:
    return TF32 in _flags(settings)


def apply_settings(settings: Mapping[str, Any], config: Any, api: Any) -> None:
    """Set them on a builder config, and take TF32 away unless they ask for it: fp32 means fp32.

    Raises:
        UsageError: a value that this TensorRT does not know.
    """
    config.clear_flag(api.BuilderFlag.TF32)
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED  # or the inspector would not tell kernels
    for name, value in settings.items():
        if name in NUMBERS:
            if type(value) is not int or value < NUMBERS[name]:
                raise UsageError(f"--config: {name}: expected a whole number from {NUMBERS[name]} up, got {value!r}")
            _set(config, name, value)
        elif name in NAMED:
            _set(config, name, _member(getattr(api, NAMED[name], None), name, value))
    for flag in _flags(settings):
        if flag in OWN_FLAGS:
            raise UsageError(f"--config: flags: {flag} is packnet's to set; see --switch and --sparsity")
        if flag in HOST_CODE_FLAGS:
            raise UsageError(
                f"--config: flags: {flag} puts code for the CPU into the plan, which packnet never runs "
                "(docs/security.md); build a plan for each version of TensorRT"
            )
        config.set_flag(_member(api.BuilderFlag, FLAGS, flag))


def _flags(settings: Mapping[str, Any]) -> list[Any]:
    value = settings.get(FLAGS, [])
    return value if isinstance(value, list) else [value]


def _set(config: Any, name: str, value: Any) -> None:
    if not hasattr(config, name):
        raise UsageError(f"--config: {name}: this TensorRT does not have it; leave it out")
    setattr(config, name, value)


def _member(kind: Any, name: str, value: Any) -> Any:
    members = getattr(kind, "__members__", {})
    if not isinstance(value, str) or value not in members:
        raise UsageError(f"--config: {name}: expected one of {', '.join(members) or 'nothing here'}, got {value!r}")
    return members[value]
