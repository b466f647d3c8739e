"""The GPU as an engine uses it: one stream, memory, copies, the switching kernels, CUDA graphs.

Whatever touches CUDA goes through here, so that tests can put a stand-in in its place; TensorRT is given the stream and
addresses. Everything but ``synchronise`` and allocating only enqueues. Not for several threads at once: ``Engine`` sees
to that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt.difference import TILE
from packnet_deploy.trt.gpu import answer, primary_context
from packnet_deploy.trt.kernel import CLEAR, KERNELS, WRITE, compile_kernels
from packnet_deploy.trt.sidecar import Gpu

BLOCK = 256  # threads

Bytes = npt.NDArray[np.uint8]
_POINTER, _U64, _U32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32


@dataclass(frozen=True)
class Owners:
    """What one launch of a switching kernel works on: some owners' weights of an ordered bank, within bounds.

    Attributes:
        masks, before: addresses of the lowest owner's rows (``OrderedBank``).
        tiles: of the whole bank.
        count: of the owners.
        first, last: the positions from which and before which weights are written.
        itemsize: bytes of a weight.
    """

    masks: int
    before: int
    tiles: int
    count: int
    first: int
    last: int
    itemsize: int

    @property
    def blocks(self) -> int:
        """Tiles within the bounds, for each owner."""
        return -(-self.last // TILE) - self.first // TILE


class Device:
    """A GPU, in its primary context: the one that TensorRT and PyTorch use as well.

    Args:
        index: its number (``expect_gpu``).

    Attributes:
        stream: handle of the stream on which everything is enqueued; not the default one, which TensorRT slows down.

    Raises:
        EnvironmentFault: CUDA does not start, or any later call fails; carries what the driver says.
    """

    def __init__(self, gpu: Gpu, index: int = 0) -> None:
        from cuda.bindings import driver

        self._cuda = driver
        self._gpu = gpu
        self._context = primary_context(index)
        self._closed = False
        self.make_current()
        self._stream = answer(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.stream = int(self._stream)
        self._module: Any = None
        self._kernels: dict[str, Any] = {}
        self._allocated: list[Any] = []
        self._pinned: list[Any] = []
        self._graphs: list[Any] = []  # those that can be launched
        self._free_at_start = self._free()

    def make_current(self) -> None:
        """Contexts belong to threads: call this first in whichever thread comes next."""
        answer(self._cuda.cuCtxSetCurrent(self._context))

    @property
    def used(self) -> int:
        """Bytes that the GPU's free memory has shrunk by since this object was made, whoever took them."""
        return self._free_at_start - self._free()

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes of GPU memory, aligned to 256; given back by ``close``."""
        code, address = self._cuda.cuMemAlloc(max(size, 1))
        if code == self._cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise EnvironmentFault(
                f"GPU memory: {size:,} bytes needed, {self._free():,} free; keep the bank on the host (bank host), or "
                "free memory on the GPU"
            )
        self._allocated.append(answer((code, address)))
        return int(address)

    def pinned(self, size: int) -> Bytes:
        """``size`` bytes of page-locked host memory, which copies need in order not to wait; gone after ``close``."""
        address = answer(self._cuda.cuMemHostAlloc(max(size, 1), self._cuda.CU_MEMHOSTALLOC_DEVICEMAP))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def address_of(self, memory: Bytes) -> int:
        """Where kernels read a block of ``pinned`` memory; on a machine that gives it another address than the host."""
        return int(answer(self._cuda.cuMemHostGetDevicePointer(memory.ctypes.data, 0)))

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU. It must not change before the stream has come that far."""
        if array.nbytes:
            answer(self._cuda.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, self._stream))

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Copy from the GPU into a contiguous array."""
        answer(self._cuda.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, self._stream))

    def copy(self, to: int, source: int, size: int) -> None:
        """Copy ``size`` bytes between addresses on the GPU, or of memory whose ``address_of`` it knows."""
        if size:
            answer(self._cuda.cuMemcpyAsync(to, source, size, self._stream))

    def clear(self, address: int, size: int) -> None:
        """Set ``size`` bytes to zero."""
        if size:
            answer(self._cuda.cuMemsetD8Async(address, 0, size, self._stream))

    def wait_for(self, stream: int) -> None:
        """Let what is enqueued from now on wait for what is enqueued on another stream; 0 is the default one."""
        self._order(stream, self._stream)

    def hold_up(self, stream: int) -> None:
        """Let what another stream is given from now on wait for what is enqueued here."""
        self._order(self._stream, stream)

    def load_kernels(self) -> None:
        """Compile the switching kernels for this GPU; ``write_owners`` and ``clear_owners`` need them.

        Raises:
            EnvironmentFault: there is no NVRTC, or none for this GPU, or its code is too new for the driver.
        """
        if self._module is None:
            image = compile_kernels(self._gpu.compute_capability, self._gpu.driver)
            self._module = answer(self._cuda.cuModuleLoadData(image))
            for name in KERNELS:
                self._kernels[name] = answer(self._cuda.cuModuleGetFunction(self._module, name.encode()))

    def write_owners(self, out: int, values: int, owners: Owners) -> None:
        """Write the values of ``owners``, that at position ``first`` to ``out``; ``values`` has the whole bank's."""
        addresses = [(_POINTER, out), (_POINTER, values)]
        self._launch(WRITE[owners.itemsize], owners, addresses)

    def clear_owners(self, out: int, owners: Owners) -> None:
        """The same with zeros."""
        self._launch(CLEAR[owners.itemsize], owners, [(_POINTER, out)])

    def timed(self, enqueue: Callable[[], None]) -> float:
        """Milliseconds of what ``enqueue`` enqueues, by the GPU's own clock; done when this returns."""
        events = [answer(self._cuda.cuEventCreate(self._cuda.CUevent_flags.CU_EVENT_DEFAULT)) for _ in range(2)]
        try:
            answer(self._cuda.cuEventRecord(events[0], self._stream))
            enqueue()
            answer(self._cuda.cuEventRecord(events[1], self._stream))
            self.synchronise()
            return float(answer(self._cuda.cuEventElapsedTime(*events)))
        finally:
            for event in events:
                self._cuda.cuEventDestroy(event)

    def capture(self, enqueue: Callable[[], None], stale: Any = None) -> Any:
        """What ``enqueue`` enqueues, as a CUDA graph for ``replay``; none of it runs yet.

        Args:
            stale: a graph of the same work as it was; brought up to date where the driver can, else given back.

        Raises:
            EnvironmentFault: it cannot be captured. The stream takes work as before.
        """
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        answer(self._cuda.cuStreamBeginCapture(self._stream, mode))
        recorded = None
        try:
            try:
                enqueue()
            finally:  # the stream takes nothing else before the capture has ended
                code, recorded = self._cuda.cuStreamEndCapture(self._stream)
            answer((code,))
            if stale is not None:
                if int(self._cuda.cuGraphExecUpdate(stale, recorded)[0]) == 0:
                    return stale
                self._give_back(stale)
            graph = answer(self._cuda.cuGraphInstantiate(recorded, 0))
        finally:
            if recorded is not None:
                self._cuda.cuGraphDestroy(recorded)
        self._graphs.append(graph)
        return graph

    def replay(self, graph: Any) -> None:
        answer(self._cuda.cuGraphLaunch(graph, self._stream))

    def forget_graphs(self) -> None:
        """Give back every captured graph; one that is running ends first."""
        while self._graphs:
            self._give_back(self._graphs[-1])

    def synchronise(self) -> None:
        """Wait until all that was enqueued is done.

        Raises:
            EnvironmentFault: some of it failed.
        """
        answer(self._cuda.cuStreamSynchronize(self._stream))

    def close(self) -> None:
        """Give everything back; whoever runs on this stream must have been let go of before. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self.make_current()
        self._cuda.cuStreamSynchronize(self._stream)
        self.forget_graphs()
        while self._allocated:
            self._cuda.cuMemFree(self._allocated.pop())
        while self._pinned:
            self._cuda.cuMemFreeHost(self._pinned.pop())
        if self._module is not None:
            self._cuda.cuModuleUnload(self._module)
        self._cuda.cuStreamDestroy(self._stream)

    def _give_back(self, graph: Any) -> None:
        self._graphs.remove(graph)
        self._cuda.cuGraphExecDestroy(graph)

    def _order(self, first: Any, then: Any) -> None:
        event = answer(self._cuda.cuEventCreate(self._cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        try:
            answer(self._cuda.cuEventRecord(event, first))
            answer(self._cuda.cuStreamWaitEvent(then, event, 0))
        finally:
            self._cuda.cuEventDestroy(event)  # when it has come to pass

    def _free(self) -> int:
        code, free, _ = self._cuda.cuMemGetInfo()
        return int(answer((code, free)))

    def _launch(self, kernel: str, owners: Owners, addresses: list[tuple[Any, int]]) -> None:
        table = [(_POINTER, owners.masks), (_POINTER, owners.before), (_U32, owners.tiles)]
        bounds = [(_U64, owners.first), (_U64, owners.last)]
        types, values = zip(*addresses, *table, *bounds, strict=True)
        blocks = (owners.blocks, owners.count, 1)
        answer(
            self._cuda.cuLaunchKernel(self._kernels[kernel], *blocks, BLOCK, 1, 1, 0, self._stream, (values, types), 0)
        )
