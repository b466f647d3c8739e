"""A plan's bytes made into an engine that runs, and what TensorRT said when something was wrong.

Deserialising runs the plan's code: only bytes that ``check_plan`` has passed come here (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.runners.contract import IMAGES, LOGITS, TASK
from packnet_deploy.trt.check import check_machine, read_plan
from packnet_deploy.trt.flavour import Flavour, load_flavour
from packnet_deploy.trt.gpu import expect_gpu, gpu_index
from packnet_deploy.trt.inspection import Layer, layers_of
from packnet_deploy.trt.layout import FILTER
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar

DATA_TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}  # of TensorRT


class LoadedEngine:
    """One deserialised engine, and where it complains.

    Attributes:
        api: TensorRT's Python package.
        channels_last: the names of the bound filters that it reads so.
    """

    def __init__(self, plan: Path, content: bytes, sidecar: Sidecar, flavour: Flavour) -> None:
        """Deserialise ``content``.

        Raises:
            ArtefactError: TensorRT refuses it, or it has other inputs and outputs than its sidecar says.
            EnvironmentFault: TensorRT does not start.
        """
        self.api = flavour.api
        self._plan, self._sidecar = plan, sidecar
        self._logger = flavour.logger
        self._runtime = flavour.start("Runtime")
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise self.failure("TensorRT cannot load the plan")
        self.channels_last = self._check_tensors(sidecar)
        count = self._engine.num_optimization_profiles
        shapes = (self._engine.get_tensor_profile_shape(IMAGES, index) for index in range(count))
        self._profiles = [(int(least[0]), int(most[0])) for least, _, most in shapes]
        self._config: Any = None  # of contexts; None for TensorRT's own
        self._cache: Any = None
        self._captures = False

    def configure(self, cuda_graph: bool, cache: Path | None) -> None:
        """Say how contexts shall run, where TensorRT can be told: TensorRT-RTX, which compiles kernels as it runs.

        Args:
            cuda_graph: it captures what it runs by itself, once kernels are those of the shapes that come; they are
                compiled before anything runs, or a graph could keep the slower ones that stand in for them.
            cache: a file of compiled kernels; one that does not fit is started anew.

        Raises:
            EnvironmentFault: the file cannot be read.
        """
        if not hasattr(self.api, "CudaGraphStrategy") or not (cuda_graph or cache):
            return
        self._config = self._engine.create_runtime_config()
        if cuda_graph:
            self._config.cuda_graph_strategy = self.api.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            eager = self.api.DynamicShapesKernelSpecializationStrategy.EAGER
            self._config.dynamic_shapes_kernel_specialization_strategy = eager
        self._captures = cuda_graph
        if cache is not None:
            self._cache = self._config.create_runtime_cache()
            try:
                if cache.exists():
                    self._cache.deserialize(cache.read_bytes())
            except OSError as error:
                raise EnvironmentFault(f"{cache}: cannot be read ({error.strerror})") from error
            self._config.set_runtime_cache(self._cache)

    def context(self) -> Context:
        """A context for one request at a time; several run at once.

        Raises:
            ArtefactError: TensorRT cannot make one.
        """
        made = self._engine.create_execution_context(*([] if self._config is None else [self._config]))
        if made is None:
            raise self.failure("TensorRT cannot make an execution context")
        return Context(self, made, self._sidecar, self._captures)

    def profile_for(self, batch: int) -> int:
        """The optimisation profile whose kernels suit a batch best: the narrowest that takes it; 0 where none does."""
        taking = [(most - least, index) for index, (least, most) in enumerate(self._profiles) if least <= batch <= most]
        return min(taking, default=(0, 0))[1]

    def compiled(self) -> bytes | None:
        """The kernels that were compiled, for the file given to ``configure``; None where none was."""
        return None if self._cache is None else bytes(self._cache.serialize())

    def refitter(self) -> Any:
        """TensorRT's refitter of this engine.

        Raises:
            EnvironmentFault: TensorRT gives none.
        """
        try:
            return self.api.Refitter(self._engine, self._logger)
        except TypeError as error:  # pybind11's "factory function returned nullptr"
            raise EnvironmentFault(
                f"{self._plan}: TensorRT makes no refitter for it ({self._logger.last or error}); free memory on the "
                "GPU, or build the plan again"
            ) from error

    def layers(self) -> tuple[Layer, ...]:
        """What TensorRT's inspector tells of its layers; none where it tells nothing."""
        inspector = self._engine.create_engine_inspector()
        return layers_of(str(inspector.get_engine_information(self.api.LayerInformationFormat.JSON)))

    def failure(self, what: str) -> ArtefactError:
        """The error to raise, with the last thing that TensorRT said."""
        said = f": {self._logger.last}" if self._logger.last else ""
        return ArtefactError(f"{self._plan}: {what}{said}; build the plan again on this machine")

    def close(self) -> None:
        """Let go of everything; contexts must be gone. Nothing may be running."""
        self._config = self._cache = self._engine = self._runtime = None

    def _check_tensors(self, sidecar: Sidecar) -> frozenset[str]:
        """The engine reads and writes at the addresses that it is given as far as its own shapes say.

        Returns:
            The filters that it reads with their channels last.
        """
        batch = sidecar.batch
        images = batch.most if batch.least == batch.most else -1  # a dimension of one size only is static
        expected: dict[str, tuple[str, tuple[int, ...]]] = {
            IMAGES: ("FLOAT", (images, *sidecar.input.shape)),
            LOGITS: ("FLOAT", (images, sidecar.classes)),
        }
        if sidecar.switch == "selector":
            expected[TASK] = ("INT32", (1,))
        if sidecar.switch == "bind":
            expected |= {weight.name: (DATA_TYPES[weight.dtype], weight.shape) for weight in sidecar.weights}
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        if odd := sorted({*names} ^ {*expected}):
            raise self.failure(
                f"expected the {len(expected)} inputs and outputs that its sidecar names, got {len(names)} "
                f"(not in both: {', '.join(odd[:3])})"
            )
        for name, (dtype, shape) in expected.items():
            got = self._engine.get_tensor_dtype(name), tuple(self._engine.get_tensor_shape(name))
            # Logits are as wide as the widest head, and how many there are may be told by images alone.
            fits = got[1] == shape or (name == LOGITS and len(got[1]) == 2 and got[1] in {(-1, shape[1]), (images, -1)})
            if got[0] != getattr(self.api.DataType, dtype) or not fits:
                raise self.failure(f"tensor '{name}': expected {dtype} {shape}, as its sidecar says, got {got}")
        linear, last = self.api.TensorFormat.LINEAR, self.api.TensorFormat.HWC
        formats = {name: self._engine.get_tensor_format(name) for name in names}
        for name, got_format in formats.items():
            if got_format != linear and (got_format != last or len(expected[name][1]) != FILTER or name == IMAGES):
                raise self.failure(f"tensor '{name}': expected it to lie in rows or with its channels last")
        return frozenset(name for name, got_format in formats.items() if got_format == last)


def layers_of_plan(plan: Path, device: str = "cuda") -> tuple[Layer, ...]:
    """The layers of a plan and their kernels; it is checked and deserialised for that, and runs nothing.

    Raises:
        ArtefactError: plan, sidecar and machine do not fit together.
        EnvironmentFault: no GPU or no TensorRT.
    """
    sidecar = read_sidecar(plan)
    flavour = load_flavour(sidecar.flavour)
    check_machine(plan, sidecar, flavour, expect_gpu("showing the layers of a plan", gpu_index(device)))
    loaded = LoadedEngine(plan, read_plan(plan, sidecar), sidecar, flavour)
    try:
        return loaded.layers()
    finally:
        loaded.close()


def _profiler(api: Any, times: dict[str, float]) -> Any:
    class Profiler(api.IProfiler):  # type: ignore[misc]  # the package is only known at run time
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name] = times.get(layer_name, 0.0) + ms

    return Profiler()


class Context:
    """One execution context of an engine.

    Attributes:
        captures: TensorRT makes CUDA graphs of what it runs by itself.
    """

    def __init__(self, loaded: LoadedEngine, context: Any, sidecar: Sidecar, captures: bool) -> None:
        self._loaded, self._context, self.captures = loaded, context, captures
        self._shape, self._classes = sidecar.input.shape, sidecar.classes
        self._batch = 0  # the context's; none yet
        self._profile = 0  # a new context has the first

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where inputs and outputs lie on the GPU.

        Raises:
            ArtefactError: TensorRT refuses one.
        """
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._loaded.failure(f"TensorRT refuses the address of '{name}'")

    def enqueue(self, batch: int, stream: int) -> None:
        """Enqueue one inference of ``batch`` images.

        Raises:
            ArtefactError: TensorRT refuses the batch, or to run.
        """
        if batch != self._batch:
            self._choose_profile(batch, stream)
            if not self._context.set_input_shape(IMAGES, (batch, *self._shape)):
                raise self._loaded.failure(f"TensorRT refuses a batch of {batch}")
            if (got := tuple(self._context.get_tensor_shape(LOGITS))) != (batch, self._classes):
                self._batch = 0  # it would write past the end of the buffer
                raise self._loaded.failure(
                    f"expected logits {[batch, self._classes]}, as the sidecar says, got {list(got)}"
                )
            self._batch = batch
        if not self._context.execute_async_v3(stream):
            raise self._loaded.failure("TensorRT cannot run the engine")

    def _choose_profile(self, batch: int, stream: int) -> None:
        best = self._loaded.profile_for(batch)
        if best != self._profile:
            if not self._context.set_optimization_profile_async(best, stream):
                raise self._loaded.failure(f"TensorRT refuses optimisation profile {best}")
            self._profile = best

    def profile(self, batch: int, stream: int, synchronise: Callable[[], None]) -> dict[str, float]:
        """One inference, waited for; milliseconds by the layer's name.

        Raises:
            ArtefactError: as ``enqueue``.
        """
        times: dict[str, float] = {}
        self._context.profiler = _profiler(self._loaded.api, times)
        try:
            self.enqueue(batch, stream)
            synchronise()
        finally:
            self._context.profiler = None
        return times

    def may_be_captured(self, stream: int) -> bool:
        """What TensorRT answers; where it cannot be asked, trying is the answer."""
        asked = getattr(self._context, "is_stream_capturable", None)
        return True if asked is None else bool(asked(stream))

    def close(self) -> None:
        """Let go of it; it must not be running."""
        self._context = None
