"""Stand-ins for a GPU and for TensorRT: NOT the real things, which no test without a GPU can show to work.

They do on the host what the real ones promise: memory has addresses, whatever is enqueued runs no sooner than at
``synchronise``, an engine computes its logits (in ONNX Runtime) from what lies at the addresses it was given, and a
refit copies its weights. So a wrong offset, a missing wait or an upload that was changed too soon gives wrong logits.
``log`` has every call in the order it was made.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from host_kernels import HostKernels

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt.flavour import Flavour
from packnet_deploy.trt.sidecar import Gpu

VERSION = "10.13.3.9"
GPU = Gpu("Stand-in", "8.6", "13.0", 1 << 33)
STREAM = 4711
TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
TYPES["int32"] = np.dtype(np.int32)


def at(address: int, count: int, dtype: np.dtype) -> np.ndarray:
    """The memory at an address."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)).view(dtype)


class StandInDevice:
    """``packnet_deploy.trt.device.Device`` on the host.

    Args:
        kernels: the real kernels, compiled for the host; numpy's arithmetic where they are not given.
    """

    def __init__(self, kernels: HostKernels | None = None) -> None:
        self.kernels = kernels
        self.stream = STREAM
        self.log: list[str] = []
        self.queue: list[Callable[[], None]] = []
        self.memory: list[np.ndarray] = []
        self.allocated = 0
        self.capturing: list[Callable[[], None]] | None = None
        self.graphs: list[Any] = []
        self.closed = False
        self.fails_next = False

    @property
    def used(self) -> int:
        return self.allocated

    def make_current(self) -> None:
        assert not self.closed

    def allocate(self, size: int) -> int:
        self.allocated += size
        memory = self.pinned(size + 256)
        start = int(memory.ctypes.data)
        return start + -start % 256

    def pinned(self, size: int) -> np.ndarray:
        self.memory.append(np.full(size, 0xFF, np.uint8))  # not a number, in any type: new memory holds nothing to use
        return self.memory[-1]

    def load_kernels(self) -> None:
        self.log.append("load kernels")

    def enqueue(self, what: str, work: Callable[[], None]) -> None:
        self.log.append(what)
        (self.queue if self.capturing is None else self.capturing).append(work)

    def upload(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        source = array.reshape(-1)  # a view: read when the stream gets there
        if source.size:
            self.enqueue("upload", lambda: np.copyto(at(address, source.size, source.dtype), source))

    def download(self, array: np.ndarray, address: int) -> None:
        assert array.flags.c_contiguous
        self.enqueue("download", lambda: np.copyto(array.reshape(-1), at(address, array.size, array.dtype)))

    def mask(self, out: int, bank: int, ranks: int, count: int, task: int, itemsize: int) -> None:
        assert out % 16 == bank % 16 == ranks % 16 == 0
        bits = np.dtype(f"u{itemsize}")

        def work() -> None:
            if self.kernels is not None:
                return self.kernels.mask(out, bank, ranks, count, task, itemsize)
            keep = at(ranks, count, np.dtype(np.uint8)) < task
            at(out, count, bits)[:] = np.where(keep, at(bank, count, bits), 0)

        self.enqueue(f"mask {task}", work)

    def scale(self, weights: int, ratios: int, count: int, inner: int, channels: int, precision: str) -> None:
        def work() -> None:
            if self.kernels is not None:
                return self.kernels.scale(weights, ratios, count, inner, channels, precision)
            typed = at(weights, count, TYPES[precision])
            factors = at(ratios, channels, np.dtype(np.float32))[np.arange(count) // inner % channels]
            typed[:] = (typed.astype(np.float32) * factors).astype(typed.dtype)

        self.enqueue("scale", work)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        self.log.append("capture")
        self.capturing = graph = []
        enqueue()
        self.capturing = None
        self.graphs.append(graph)
        return graph

    def replay(self, graph: Any) -> None:
        self.log.append("replay")
        assert any(graph is known for known in self.graphs)
        self.queue += graph

    def forget_graphs(self) -> None:
        self.graphs.clear()

    def synchronise(self) -> None:
        self.log.append("synchronise")
        if self.fails_next:
            self.fails_next = False
            self.queue.clear()
            raise EnvironmentFault("the CUDA driver says CUDA_ERROR_ILLEGAL_ADDRESS; check it with nvidia-smi")
        while self.queue:
            self.queue.pop(0)()

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class StandInDataType(enum.Enum):
    FLOAT, HALF, BF16, INT32 = "fp32", "fp16", "bf16", "int32"


OF_ONNX = {
    "tensor(float)": StandInDataType.FLOAT,
    "tensor(float16)": StandInDataType.HALF,
    "tensor(int32)": StandInDataType.INT32,
}


class StandInLogger:
    ERROR = 1


@dataclass
class StandInWeights:
    dtype: StandInDataType
    pointer: int
    size: int


@dataclass
class StandInEngine:
    """A graph in ONNX Runtime; ``weights`` are those that a refit has given it."""

    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]  # that are bound to addresses
    weights: dict[str, np.ndarray]
    trt: StandInTensorRT

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + 1

    def get_tensor_name(self, index: int) -> str:
        return (*self.inputs, "logits")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._tensor(name).shape)

    def get_tensor_dtype(self, name: str) -> StandInDataType:
        return OF_ONNX[self._tensor(name).type]

    def _tensor(self, name: str) -> Any:
        tensors = (*self.session.get_inputs(), *self.session.get_outputs())
        return next(tensor for tensor in tensors if tensor.name == name)

    def create_execution_context(self) -> StandInContext:
        return StandInContext(self)


@dataclass
class StandInContext:
    engine: StandInEngine
    addresses: dict[str, int] = field(default_factory=dict)
    batch: tuple[int, ...] = ()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in (*self.engine.inputs, "logits")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape
        least, most = self.engine.trt.batch
        return name == "images" and least <= shape[0] <= most

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "logits"
        return self.batch[0], self.engine.trt.classes or self.engine.get_tensor_shape("logits")[1]

    def execute_async_v3(self, stream: int) -> bool:
        trt, shape, addresses = self.engine.trt, self.batch, dict(self.addresses)
        assert stream == trt.device.stream

        def work() -> None:
            feeds = {"images": at(addresses["images"], int(np.prod(shape)), np.dtype(np.float32)).reshape(shape)}
            assert np.isfinite(feeds["images"]).all()
            for node in self.engine.session.get_inputs()[1:]:
                if node.name in self.engine.weights:
                    feeds[node.name] = self.engine.weights[node.name]
                else:
                    flat = at(addresses[node.name], int(np.prod(node.shape)), TYPES[OF_ONNX[node.type].value])
                    feeds[node.name] = flat.reshape(node.shape)
            (logits,) = self.engine.session.run(["logits"], feeds)
            at(addresses["logits"], logits.size, logits.dtype)[:] = logits.reshape(-1)

        trt.device.enqueue(f"run {shape[0]}", work)
        return True


class StandInTensorRT:
    """What ``Flavour.api`` is made of. Its plans are ONNX graphs whose inputs are the weights.

    Attributes:
        batch: the fewest and the most images that engines take.
        classes: how wide engines' logits are; 0 for as wide as the graph's.
        refuses: a weight at which the next refit stops, those before it replaced.
        surplus: a weight that engines take besides those of the graph.
    """

    ILogger, DataType, Weights = StandInLogger, StandInDataType, StandInWeights
    TensorLocation = enum.Enum("TensorLocation", "HOST DEVICE")
    __version__ = VERSION
    surplus: tuple[str, ...] = ()
    batch = (1, 4)
    classes = 0

    def __init__(self, device: StandInDevice, switch: str) -> None:
        self.device, self.switch = device, switch
        self.refuses = ""
        self.loads = 0

    @property
    def flavour(self) -> Flavour:
        return Flavour("tensorrt", self)

    def Runtime(self, logger: StandInLogger) -> StandInTensorRT:
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, content: bytes) -> StandInEngine | None:
        self.loads += 1
        self.device.log.append("deserialise")
        try:
            onnx.load_from_string(content)
        except Exception:
            self.logger.log(StandInLogger.ERROR, "a plan\nof another kind")
            return None
        session = onnxruntime.InferenceSession(content)
        names = tuple(node.name for node in session.get_inputs())
        if self.switch != "refit":
            return StandInEngine(session, names, {}, self)
        weights = {
            node.name: np.full(node.shape, np.nan, TYPES[OF_ONNX[node.type].value]) for node in session.get_inputs()[1:]
        }
        return StandInEngine(session, names[:1], weights, self)

    def Refitter(self, engine: StandInEngine, logger: StandInLogger) -> StandInRefitter:
        return StandInRefitter(engine)


class StandInRefitter:
    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.given: dict[str, StandInWeights] = {}

    def get_all_weights(self) -> list[str]:
        return [*self.engine.weights, *self.engine.trt.surplus]

    def get_missing_weights(self) -> list[str]:
        return [name for name in self.get_all_weights() if name not in self.given]

    def get_weights_prototype(self, name: str) -> StandInWeights:
        array = self.engine.weights[name]
        kind = next(kind for kind in StandInDataType if TYPES[kind.value] == array.dtype)
        return StandInWeights(kind, 0, array.size)

    def set_named_weights(self, name: str, weights: StandInWeights, location: enum.Enum) -> bool:
        assert location is StandInTensorRT.TensorLocation.DEVICE
        self.engine.trt.device.log.append(f"set {name}")
        self.given[name] = weights
        return True

    def refit_cuda_engine_async(self, stream: int) -> bool:
        trt = self.engine.trt
        assert stream == trt.device.stream
        refused, trt.refuses = trt.refuses, ""
        names = list(self.given)
        replaced = names[: names.index(refused)] if refused else names

        def work() -> None:
            for name in replaced:
                target = self.engine.weights[name]
                target.reshape(-1)[:] = at(self.given[name].pointer, self.given[name].size, target.dtype)

        trt.device.enqueue("refit", work)
        if refused:
            trt.logger.log(StandInLogger.ERROR, f"Refitting failed at {refused}")
        return not refused
