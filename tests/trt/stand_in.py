"""Stand-ins for a GPU and for TensorRT: NOT the real things, which no test without a GPU can show to work.

They do on the host what the real ones promise: memory has addresses, whatever is enqueued runs no sooner than at
``synchronise``, an engine computes its logits (in ONNX Runtime) from what lies at the addresses it was given, and a
refit copies its weights. So a wrong offset, a missing wait or an upload that was changed too soon gives wrong logits.
``log`` has every call in the order it was made.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from host_kernels import HostKernels

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt.device import Owners
from packnet_deploy.trt.difference import TILE
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

    Attributes:
        allocated: bytes of GPU memory, those that TensorRT's stand-in took for weights too.
        refuses_capture: what a capture fails with, as a driver may say it.
    """

    refuses_capture = ""

    def __init__(self, kernels: HostKernels | None = None, stream: int = STREAM) -> None:
        self.kernels = kernels
        self.stream = stream
        self.before_run: Callable[[], object] | None = None  # called in the middle of a request
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
        return self._take(size).ctypes.data

    def pinned(self, size: int) -> np.ndarray:
        return self._take(size)

    def address_of(self, memory: np.ndarray) -> int:
        return int(memory.ctypes.data)

    def _take(self, size: int) -> np.ndarray:
        memory = np.full(size + 512, 0xFF, np.uint8)  # not a number, in any type: new memory holds nothing to use
        self.memory.append(memory)
        start = -memory.ctypes.data % 256
        return memory[start : start + size]

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

    def copy(self, to: int, source: int, size: int) -> None:
        self.enqueue(f"copy {size}", lambda: np.copyto(at(to, size, BYTE), at(source, size, BYTE)))

    def wait_for(self, stream: int) -> None:
        self.log.append(f"wait for {stream}")

    def hold_up(self, stream: int) -> None:
        self.log.append(f"hold up {stream}")

    def clear(self, address: int, size: int) -> None:
        self.enqueue(f"clear {size}", lambda: at(address, size, BYTE).fill(0))

    def write_owners(self, out: int, values: int, owners: Owners) -> None:
        def work() -> None:
            if self.kernels is not None:
                return self.kernels.write(out, values, owners)
            bits = np.dtype(f"u{owners.itemsize}")
            target = at(out, owners.last - owners.first, bits)
            rows = at(owners.before, owners.count * (owners.tiles + 1), COUNT).reshape(owners.count, -1)
            for row in range(owners.count):
                mine = np.flatnonzero(owned(owners, row))
                theirs = at(values + int(rows[row, 0]) * owners.itemsize, mine.size, bits)
                here = (mine >= owners.first) & (mine < owners.last)
                target[mine[here] - owners.first] = theirs[here]

        self.enqueue(f"write {owners.count}", work)

    def clear_owners(self, out: int, owners: Owners) -> None:
        def work() -> None:
            if self.kernels is not None:
                return self.kernels.clear(out, owners)
            target = at(out, owners.last - owners.first, np.dtype(f"u{owners.itemsize}"))
            for row in range(owners.count):
                target[owned(owners, row)[owners.first : owners.last]] = 0

        self.enqueue(f"clear owners {owners.count}", work)

    def timed(self, enqueue: Callable[[], None]) -> float:
        self.log.append("timed")
        enqueue()
        self.synchronise()
        return 0.25

    def capture(self, enqueue: Callable[[], None], stale: Any = None) -> Any:
        self.log.append("capture" if stale is None else "capture again")
        self.capturing = graph = []
        try:
            enqueue()
        finally:
            self.capturing = None
        if self.refuses_capture:
            raise EnvironmentFault(self.refuses_capture)
        if stale is not None:
            stale[:] = graph
            return stale
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


BYTE, COUNT = np.dtype(np.uint8), np.dtype(np.uint32)


def owned(owners: Owners, row: int) -> np.ndarray:
    """One owner's mask, a bool for each position."""
    size = owners.tiles * TILE // 8
    return np.unpackbits(at(owners.masks + row * size, size, BYTE), bitorder="little").view(np.bool_)


class StandInDataType(enum.Enum):
    FLOAT, HALF, BF16, INT32 = "fp32", "fp16", "bf16", "int32"


OF_ONNX = {
    "tensor(float)": StandInDataType.FLOAT,
    "tensor(float16)": StandInDataType.HALF,
    "tensor(int32)": StandInDataType.INT32,
}


class StandInLogger:
    ERROR = 1


class StandInProfiler:
    pass


@dataclass
class StandInWeights:
    dtype: StandInDataType | None
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

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.trt.profiles)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert name == "images"
        image = self._tensor(name).shape[1:]
        return [(batch, *image) for batch in self.trt.profiles[profile]]

    def get_tensor_name(self, index: int) -> str:
        return (*self.inputs, "logits")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """A dimension whose least and most are the same is static; any other that a request chooses is -1."""
        least, most = self.trt.batch
        batch = most if least == most else -1
        return tuple(size if isinstance(size, int) else batch for size in self._tensor(name).shape)

    def get_tensor_format(self, name: str) -> enum.Enum:
        formats = StandInTensorRT.TensorFormat
        return formats.HWC if self.trt.channels_last and name != "images" and self._is_filter(name) else formats.LINEAR

    def _is_filter(self, name: str) -> bool:
        return len(self._tensor(name).shape) == 4

    def get_tensor_dtype(self, name: str) -> StandInDataType:
        return OF_ONNX[self._tensor(name).type]

    def _tensor(self, name: str) -> Any:
        tensors = (*self.session.get_inputs(), *self.session.get_outputs())
        return next(tensor for tensor in tensors if tensor.name == name)

    def create_execution_context(self) -> StandInContext:
        return StandInContext(self)

    def create_engine_inspector(self) -> SimpleNamespace:
        return SimpleNamespace(get_engine_information=lambda form: self.trt.inspection)


@dataclass
class StandInContext:
    engine: StandInEngine
    addresses: dict[str, int] = field(default_factory=dict)
    batch: tuple[int, ...] = ()
    profile: int = 0
    profiler: Any = None  # told of each layer, when the work is done

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in (*self.engine.inputs, "logits")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape
        least, _, most = self.engine.trt.profiles[self.profile]
        return name == "images" and least <= shape[0] <= most

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        """Shapes are to be said again."""
        self.engine.trt.device_of(stream).log.append(f"profile {profile}")
        self.profile, self.batch = profile, ()
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "logits"
        return self.batch[0], self.engine.trt.classes or self.engine.get_tensor_shape("logits")[1]

    def execute_async_v3(self, stream: int) -> bool:
        trt, shape, addresses, profiler = self.engine.trt, self.batch, dict(self.addresses), self.profiler

        def work() -> None:
            feeds = {"images": at(addresses["images"], int(np.prod(shape)), np.dtype(np.float32)).reshape(shape)}
            assert np.isfinite(feeds["images"]).all()
            for node in self.engine.session.get_inputs()[1:]:
                if node.name in self.engine.weights:
                    feeds[node.name] = self.engine.weights[node.name]
                else:
                    flat = at(addresses[node.name], int(np.prod(node.shape)), TYPES[OF_ONNX[node.type].value])
                    k, c, *sides = node.shape if len(node.shape) == 4 else (0, 0)
                    if sides and trt.channels_last:
                        feeds[node.name] = np.moveaxis(flat.reshape(k, *sides, c), -1, 1)
                    else:
                        feeds[node.name] = flat.reshape(node.shape)
            (logits,) = self.engine.session.run(["logits"], feeds)
            at(addresses["logits"], logits.size, logits.dtype)[:] = logits.reshape(-1)
            if profiler is not None:
                for layer in json.loads(trt.inspection)["Layers"]:
                    profiler.report_layer_time(layer["Name"], 0.5)

        device = trt.device_of(stream)
        if device.before_run is not None:
            device.before_run()
        device.enqueue(f"run {shape[0]}", work)
        return True


class StandInTensorRT:
    """What ``Flavour.api`` is made of. Its plans are ONNX graphs whose inputs are the weights.

    Attributes:
        batch: the fewest and the most images that engines take.
        batch_profiles: numbers of images that have an optimisation profile of their own.
        channels_last: filters that are inputs are read so.
        classes: how wide engines' logits are; 0 for as wide as the graph's.
        refuses: a weight at which the next refit stops, those before it replaced.
        surplus: a weight that engines take besides those of the graph.
        merged: weights that engines hold as one, so that they are refitted together or not at all.
        inspection: what the engine inspector tells.
        others: the devices of further lanes.
    """

    ILogger, IProfiler, DataType, Weights = StandInLogger, StandInProfiler, StandInDataType, StandInWeights
    TensorFormat = enum.Enum("TensorFormat", "LINEAR HWC")
    TensorLocation = enum.Enum("TensorLocation", "HOST DEVICE")
    LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
    inspection = '{"Layers": []}'
    __version__ = VERSION
    surplus: tuple[str, ...] = ()
    merged: tuple[frozenset[str], ...] = ()
    batch = (1, 4)
    batch_profiles: tuple[int, ...] = ()
    channels_last = False
    classes = 0

    def __init__(self, device: StandInDevice, switch: str) -> None:
        self.device, self.switch = device, switch
        self.others: list[StandInDevice] = []
        self.refuses = ""
        self.loads = 0
        self.logger: StandInLogger | None = None

    @property
    def profiles(self) -> list[tuple[int, int, int]]:
        """The least, best and most images of each; the first is of the whole range."""
        least, most = self.batch
        return [(least, least, most), *((size, size, size) for size in self.batch_profiles)]

    @property
    def flavour(self) -> Flavour:
        return Flavour("tensorrt", self)

    def device_of(self, stream: int) -> StandInDevice:
        return next(device for device in (self.device, *self.others) if device.stream == stream)

    def Runtime(self, logger: StandInLogger) -> StandInTensorRT:
        self.logger = self.logger or logger  # the library goes by the first that it is given
        return self

    def deserialize_cuda_engine(self, content: bytes) -> StandInEngine | None:
        self.loads += 1
        self.device.log.append("deserialise")
        try:
            graph = onnx.load_from_string(content).graph
        except Exception:
            self.logger.log(StandInLogger.ERROR, "a plan\nof another kind")
            return None
        session = onnxruntime.InferenceSession(content)
        names = tuple(node.name for node in session.get_inputs())
        taken = sum(len(tensor.raw_data) for tensor in graph.initializer)
        weights = {}
        if self.switch == "refit":
            weights = {
                node.name: np.full(node.shape, np.nan, TYPES[OF_ONNX[node.type].value])
                for node in session.get_inputs()[1:]
            }
            names = names[:1]
        self.device.allocated += taken + sum(array.nbytes for array in weights.values())
        return StandInEngine(session, names, weights, self)

    def Refitter(self, engine: StandInEngine, logger: StandInLogger) -> StandInRefitter:
        return StandInRefitter(engine)


class StandInRefitter:
    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.given: dict[str, StandInWeights] = {}
        self.on_host: dict[str, bool] = {}
        self.weights_validation = True
        self.max_threads = 1

    def get_all_weights(self) -> list[str]:
        return [*self.engine.weights, *self.engine.trt.surplus]

    def get_missing_weights(self) -> list[str]:
        """What is merged with something that was given, and was not given itself; not what was left alone."""
        wanted = {name for group in self.engine.trt.merged if group & self.given.keys() for name in group}
        return sorted(wanted - self.given.keys())

    def get_weights_prototype(self, name: str) -> StandInWeights:
        if name not in self.engine.weights:
            return StandInWeights(None, 0, -1)
        array = self.engine.weights[name]
        kind = next(kind for kind in StandInDataType if TYPES[kind.value] == array.dtype)
        return StandInWeights(kind, 0, array.size)

    def set_named_weights(self, name: str, weights: StandInWeights, location: enum.Enum) -> bool:
        self.given[name] = weights
        self.on_host[name] = location is StandInTensorRT.TensorLocation.HOST
        return True

    def unset_named_weights(self, name: str) -> bool:
        return self.given.pop(name, None) is not None

    def refit_cuda_engine_async(self, stream: int) -> bool:
        trt = self.engine.trt
        device = trt.device_of(stream)
        if self.get_missing_weights():
            trt.logger.log(StandInLogger.ERROR, "weights are missing")
            return False
        names = list(self.given)
        device.log.append(f"give {' '.join(names)}{'' if self.weights_validation else ' unseen'}")
        device.log.append(f"from {'host' if any(self.on_host[name] for name in names) else 'device'}")
        refused = trt.refuses if trt.refuses in names else ""
        replaced = {name: self._values(name) for name in (names[: names.index(refused)] if refused else names)}

        def work() -> None:
            for name, values in replaced.items():
                self.engine.weights[name].reshape(-1)[:] = values

        device.enqueue("refit", work)
        if refused:
            trt.refuses = ""
            trt.logger.log(StandInLogger.ERROR, f"Refitting failed at {refused}")
        return not refused

    def _values(self, name: str) -> np.ndarray:
        """Where they lie, to be read when the stream comes to it; those on the host are read when it is called."""
        weights = self.given[name]
        values = at(weights.pointer, weights.size, self.engine.weights[name].dtype)
        return values.copy() if self.on_host[name] else values
