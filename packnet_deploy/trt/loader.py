"""A plan's bytes made into an engine that runs, and what TensorRT said when something was wrong.

Deserialising runs the plan's code: only bytes that ``check_plan`` has passed come here (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packnet_deploy.errors import ArtefactError
from packnet_deploy.runners.contract import IMAGES, LOGITS, TASK
from packnet_deploy.trt.flavour import Flavour, quiet_logger
from packnet_deploy.trt.sidecar import Sidecar

DATA_TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}  # of TensorRT


class LoadedEngine:
    """One deserialised engine, its one execution context, and where they complain.

    Attributes:
        api: TensorRT's Python package.
        engine, context, logger: TensorRT's own objects.
    """

    def __init__(self, plan: Path, content: bytes, sidecar: Sidecar, flavour: Flavour) -> None:
        """Deserialise ``content``.

        Raises:
            ArtefactError: TensorRT refuses it, or it has other inputs and outputs than its sidecar says.
            EnvironmentFault: TensorRT does not start.
        """
        self.api = flavour.api
        self.logger = quiet_logger(self.api)
        self._plan = plan
        self._shape = sidecar.input.shape
        self._classes = sidecar.classes
        self._batch = 0  # the context's; none yet
        self._runtime = flavour.start("Runtime", self.logger)
        self.engine = self._runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise self.failure("TensorRT cannot load the plan")
        self._check_tensors(sidecar)
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise self.failure("TensorRT cannot make an execution context")

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where inputs and outputs lie on the GPU.

        Raises:
            ArtefactError: TensorRT refuses one.
        """
        for name, address in addresses.items():
            if not self.context.set_tensor_address(name, address):
                raise self.failure(f"TensorRT refuses the address of '{name}'")

    def enqueue(self, batch: int, stream: int) -> None:
        """Enqueue one inference of ``batch`` images.

        Raises:
            ArtefactError: TensorRT refuses the batch, or to run.
        """
        if batch != self._batch:
            if not self.context.set_input_shape(IMAGES, (batch, *self._shape)):
                raise self.failure(f"TensorRT refuses a batch of {batch}")
            if (got := tuple(self.context.get_tensor_shape(LOGITS))) != (batch, self._classes):
                self._batch = 0  # it would write past the end of the buffer
                raise self.failure(f"expected logits {[batch, self._classes]}, as the sidecar says, got {list(got)}")
            self._batch = batch
        if not self.context.execute_async_v3(stream):
            raise self.failure("TensorRT cannot run the engine")

    def failure(self, what: str) -> ArtefactError:
        """The error to raise, with the last thing that TensorRT said."""
        said = f": {self.logger.last}" if self.logger.last else ""
        return ArtefactError(f"{self._plan}: {what}{said}; build the plan again on this machine")

    def close(self) -> None:
        """Let go of everything, contexts before engines. Nothing may be running."""
        self.context = self.engine = self._runtime = None

    def _check_tensors(self, sidecar: Sidecar) -> None:
        """The engine reads and writes at the addresses that it is given as far as its own shapes say."""
        expected: dict[str, tuple[str, tuple[int, ...]]] = {IMAGES: ("FLOAT", (-1, *sidecar.input.shape))}
        if sidecar.switch == "selector":
            expected[TASK] = ("INT32", (1,))
        if sidecar.switch == "bind":
            expected |= {weight.name: (DATA_TYPES[weight.dtype], weight.shape) for weight in sidecar.weights}
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        if odd := sorted({*names} ^ {*expected, LOGITS}):
            raise self.failure(
                f"expected the {len(expected) + 1} inputs and outputs that its sidecar names, got {len(names)} "
                f"(not in both: {', '.join(odd[:3])})"
            )
        for name, (dtype, shape) in {**expected, LOGITS: ("FLOAT", None)}.items():
            got = self.engine.get_tensor_dtype(name), tuple(self.engine.get_tensor_shape(name))
            if got[0] != getattr(self.api.DataType, dtype) or shape not in (None, got[1]):
                raise self.failure(f"tensor '{name}': expected {dtype} {shape}, as its sidecar says, got {got}")
