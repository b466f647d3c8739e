"""From a graph to a plan's bytes: TensorRT's parser, marks, builder and progress, and what it says when it fails.

Which graph, and which file it becomes, is not its business.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.runners.contract import IMAGES
from packnet_deploy.trt.flavour import Flavour
from packnet_deploy.trt.inspection import picked_by_log
from packnet_deploy.trt.options import BuildOptions, apply_settings

MIB = 1 << 20
CURRENT = "CURRENT"  # compute capability, in TensorRT-RTX's word


class Progress(Protocol):
    """Is told how a build goes. Phases lie within phases; each takes so many steps."""

    def phase(self, name: str, parent: str | None, steps: int) -> None: ...
    def step(self, name: str, done: int) -> None: ...
    def done(self, name: str) -> None: ...


class NoProgress:
    """Draws nothing."""

    def phase(self, name: str, parent: str | None, steps: int) -> None: ...
    def step(self, name: str, done: int) -> None: ...
    def done(self, name: str) -> None: ...


@dataclass(frozen=True)
class Network:
    """A parsed graph.

    Attributes:
        unmarked: of the names asked for, those of which TensorRT knows no weights.
    """

    flavour: Flavour
    logger: Any
    builder: Any
    definition: Any
    unmarked: tuple[str, ...]
    _parser: Any  # it owns what the definition points to

    @classmethod
    def parse(cls, flavour: Flavour, onnx: bytes, marked: Sequence[str]) -> Network:
        """Parse a graph and mark weights as refittable.

        Raises:
            ArtefactError: TensorRT's parser refuses it; says why.
            EnvironmentFault: TensorRT does not start.
        """
        api = flavour.api
        builder, logger = flavour.start("Builder"), flavour.logger
        definition = builder.create_network(flavour.strongly_typed)
        parser = api.OnnxParser(definition, logger)
        if not parser.parse(onnx):
            said = parser.get_error(0).desc() if parser.num_errors else logger.last
            raise ArtefactError(f"the graph: the parser of {flavour.name} {flavour.version} refuses it: {said}")
        unmarked = tuple(name for name in marked if not definition.mark_weights_refittable(name))
        return cls(flavour, logger, builder, definition, unmarked, parser)

    def expect_channels_last(self, weights: Collection[str]) -> None:
        """Have these of its inputs, filters ``[k, c, h, w]``, lie in memory as ``[k, h, w, c]``, as kernels read them.

        In any other layout TensorRT puts kernels before the convolutions that lay filters out anew at every inference.
        """
        inputs = (self.definition.get_input(index) for index in range(self.definition.num_inputs))
        for tensor in inputs:
            if tensor.name in weights:
                tensor.allowed_formats = 1 << int(self.flavour.api.TensorFormat.HWC)

    def serialise(
        self,
        options: BuildOptions,
        image: Sequence[int],
        *,
        capabilities: Sequence[str] = (),
        refit: bool = False,
        sparse: bool = False,
        settings: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """Build it.

        Args:
            image: channels, height, width.
            capabilities: to build for, where the flavour lets one choose: "8.6", or ``CURRENT``, the GPU at hand. None
                are TensorRT's own choice.
            sparse: let TensorRT choose sparse kernels.

        Raises:
            EnvironmentFault: TensorRT cannot build it here; with its last error.
            KeyboardInterrupt: stopped by SIGINT; TensorRT has given up in order.
        """
        api = self.flavour.api
        config = self.builder.create_builder_config()
        apply_settings(settings or {}, config, api)
        whole_range = (options.min_batch, options.opt_batch, options.max_batch)
        for batches in (whole_range, *((size,) * 3 for size in dict.fromkeys(options.batch_profiles))):
            profile = self.builder.create_optimization_profile()
            profile.set_shape(IMAGES, *((batch, *image) for batch in batches))
            config.add_optimization_profile(profile)
        flags = {
            "REFIT_INDIVIDUAL": refit,
            "SPARSE_WEIGHTS": sparse,
            "REQUIRE_USER_ALLOCATION": self.flavour.allocates_as_it_runs,
        }
        for flag in (name for name, wanted in flags.items() if wanted):
            config.set_flag(getattr(api.BuilderFlag, flag))
        if options.hardware_compatible:
            config.hardware_compatibility_level = api.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.workspace is not None:
            config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace * MIB)
        if self.flavour.builds_for_named_gpus:
            # What can be refitted is compiled for the GPU at hand, which need not be among those that can be named.
            names = [CURRENT] if refit else [name if name == CURRENT else _member(name) for name in capabilities]
            config.num_compute_capabilities = len(names)
            for index, name in enumerate(names):
                config.set_compute_capability(api.ComputeCapability.__members__[name], index)
        with timing_cache(config, options.timing_cache), _interruptible() as interrupted:
            monitor = _monitor(api, progress or NoProgress(), interrupted)
            config.progress_monitor = monitor
            plan = self.builder.build_serialized_network(self.definition, config)
        if interrupted.is_set():
            raise KeyboardInterrupt
        if plan is None:
            raise EnvironmentFault(
                f"{self.flavour.name} {self.flavour.version} cannot build the engine here: "
                f"{self.logger.last or 'it does not say why'}; see what this machine can do: packnet doctor"
            )
        return bytes(plan)

    def picked(self, layers: Sequence[str]) -> dict[str, bool] | None:
        """For every layer (ONNX node name), whether the builder chose a sparse kernel; None where it did not tell."""
        return picked_by_log(self.logger.sparsity, layers)


def _member(capability: str) -> str:
    """Of TensorRT's enumeration: SM86 for "8.6"."""
    return f"SM{capability.replace('.', '')}"


def _monitor(api: Any, progress: Progress, interrupted: threading.Event) -> Any:
    class Monitor(api.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step + 1)
            return not interrupted.is_set()

        def phase_finish(self, phase_name: str) -> None:
            progress.done(phase_name)

    return Monitor()


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """SIGINT only sets the event: an exception must not cross TensorRT's own frames."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def timing_cache(config: Any, path: Path | None) -> Iterator[None]:
    """Kernel timings from a file, and back into it when the build is over; one that does not fit is started anew.

    Raises:
        EnvironmentFault: it cannot be read or written.
    """
    if path is None:
        yield
        return
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise EnvironmentFault(f"--timing-cache {path}: cannot be read ({error.strerror})") from error
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    yield
    try:
        with replacing(path) as file:
            file.write(bytes(config.get_timing_cache().serialize()))
    except OSError as error:
        raise EnvironmentFault(f"--timing-cache {path}: cannot be written ({error.strerror})") from error
