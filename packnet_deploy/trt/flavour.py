"""TensorRT and TensorRT-RTX behind one name: which Python package it is, and every way in which the two differ.

Both have the same API, and nothing is imported before ``load_flavour``. Nothing of what they say is printed; what
matters is kept (``quiet_logger``).
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from packnet_deploy.errors import EnvironmentFault, UsageError, missing_package

FLAVOURS = ("tensorrt", "tensorrt-rtx")
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
EXTRAS = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
AUTO = "auto"  # the first of FLAVOURS that is installed
TURING = "7.5"  # its tensor cores know fp16 alone: neither bf16 nor a linear layer in fp32 can be built for it
SPARSITY_NOTE = "(Sparsity)"  # begins the lines in which the builder lists sparse layers
AMPERE = "8.0"
# What runs plans that are built to be compatible, of the GPUs there are; AMPERE is the oldest.
FROM_AMPERE_ON = (AMPERE, "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")
LOSES_GEMM_BIAS = "11.3"  # a refittable engine of this TensorRT may drop the bias of a Gemm (docs/gpu.md)


@dataclass(frozen=True)
class Flavour:
    """One of ``FLAVOURS``, installed here.

    Attributes:
        name: as on the command line and in a plan's sidecar.
        api: the Python package, ``tensorrt`` or ``tensorrt_rtx``.
    """

    name: str
    api: Any

    @property
    def version(self) -> str:
        return str(self.api.__version__)

    @property
    def builds_without_gpu(self) -> bool:
        """Plans that cannot be refitted, that is: refittable ones are compiled on the GPU by both flavours."""
        return self.name == "tensorrt-rtx"

    @property
    def builds_for_named_gpus(self) -> bool:
        """Whether a build can name compute capabilities; else a plan fits the GPU it was built on."""
        return self.name == "tensorrt-rtx"

    @property
    def allocates_as_it_runs(self) -> bool:
        """Whether engines take memory as they run unless they are told not to; no CUDA graph can hold that."""
        return self.name == "tensorrt-rtx"

    @property
    def times_kernels(self) -> bool:
        """Whether it chooses kernels by timing them, and so has a timing cache; else when an engine first runs."""
        return self.name == "tensorrt"

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """Those that a build can name, such as "8.6"; empty where it cannot."""
        if not self.builds_for_named_gpus:
            return ()
        names = (name.removeprefix("SM") for name in self.api.ComputeCapability.__members__ if name.startswith("SM"))
        return tuple(f"{name[:-1]}.{name[-1]}" for name in names)

    def usual_capabilities(self, precision: str) -> tuple[str, ...]:
        """What a build without a GPU is for, where nothing else is asked for: all that take the precision."""
        return tuple(name for name in self.compute_capabilities if name != TURING or precision == "fp16")

    @property
    def strongly_typed(self) -> int:
        """Flags of ``create_network``: types come from the ONNX graph alone."""
        return 1 << int(self.api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    @property
    def logger(self) -> Any:
        """The one logger of ``api``; of what it has heard, all is forgotten when something is started."""
        return quiet_logger(self.api)

    def start(self, kind: str) -> Any:
        """A ``Builder`` or a ``Runtime``.

        Raises:
            EnvironmentFault: there is no driver, or one that is too old for this TensorRT; TensorRT-RTX's builder
                needs none.
        """
        self.logger.forget()
        try:
            return getattr(self.api, kind)(self.logger)
        except TypeError as error:  # pybind11's "factory function returned nullptr"
            raise EnvironmentFault(
                f"{self.name} {self.version} does not start here ({self.logger.last or error}): it needs an NVIDIA GPU "
                "and a driver as new as itself; see what this machine can do: packnet doctor"
            ) from error


def load_flavour(name: str) -> Flavour:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        UsageError: ``name`` is neither ``auto`` nor one of ``FLAVOURS``.
        EnvironmentFault: it is not installed, with the line that installs it; or it is, without its libraries.
    """
    if name == AUTO:
        name = next((n for n in FLAVOURS if importlib.util.find_spec(MODULES[n]) is not None), FLAVOURS[-1])
    if name not in FLAVOURS:
        raise UsageError(f"backend: expected one of {', '.join(FLAVOURS)}, got {name!r}")
    if importlib.util.find_spec(MODULES[name]) is None:
        raise missing_package(name, EXTRAS[name], "building and running engines")
    try:
        return Flavour(name, importlib.import_module(MODULES[name]))
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise EnvironmentFault(
            f"{name}: it is installed but cannot be loaded ({reason}); run: pip install --force-reinstall "
            f"'packnet-deploy[{EXTRAS[name]}]'"
        ) from error


@cache
def quiet_logger(api: Any) -> Any:
    """The logger for TensorRT, one for each of its packages: it keeps the first that it is given for as long as the
    process lives, and goes by no later one.

    ``last`` is its latest error, on one line; ``sparsity`` has what its builder said about sparse layers. ``forget``
    empties both, before something new is begun.
    """

    class Logger(api.ILogger):  # type: ignore[misc]  # the package is only known at run time
        def __init__(self) -> None:
            super().__init__()
            self.forget()

        def forget(self) -> None:
            self.last = ""
            self.sparsity: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= api.ILogger.ERROR:
                self.last = " ".join(message.split())
            elif SPARSITY_NOTE in message:
                self.sparsity.append(message)

    return Logger()
