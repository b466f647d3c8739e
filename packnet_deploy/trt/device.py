"""The GPU as an engine uses it: one stream, memory, copies, the masking kernels, CUDA graphs.

Whatever touches CUDA goes through here, so that tests can put a stand-in in its place; TensorRT is given the stream and
addresses. Everything but ``synchronise`` and allocating only enqueues. Not for several threads at once: ``Engine`` sees
to that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt.gpu import FIRST, answer
from packnet_deploy.trt.kernel import KERNELS, MASK, SCALE, compile_kernels
from packnet_deploy.trt.sidecar import Gpu

BLOCK = 256  # threads
VECTOR = 16  # bytes that one thread masks

Bytes = npt.NDArray[np.uint8]
_POINTER, _U64, _U32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32


class Device:
    """The first GPU, in its primary context: the one that TensorRT and PyTorch use as well.

    Attributes:
        stream: handle of the stream on which everything is enqueued; not the default one, which TensorRT slows down.

    Raises:
        EnvironmentFault: CUDA does not start, or any later call fails; carries what the driver says.
    """

    def __init__(self, gpu: Gpu) -> None:
        from cuda.bindings import driver

        self._cuda = driver
        self._gpu = gpu
        answer(driver.cuInit(0))
        self._device = answer(driver.cuDeviceGet(FIRST))
        self._context = answer(driver.cuDevicePrimaryCtxRetain(self._device))
        self.make_current()
        self._stream = answer(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.stream = int(self._stream)
        self._module: Any = None
        self._kernels: dict[str, Any] = {}
        self._allocated: list[Any] = []
        self._pinned: list[Any] = []
        self._graphs: list[Any] = []
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
        address = answer(self._cuda.cuMemHostAlloc(max(size, 1), 0))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU. It must not change before the stream has come that far."""
        if array.nbytes:
            answer(self._cuda.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, self._stream))

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Copy from the GPU into a contiguous array."""
        answer(self._cuda.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, self._stream))

    def load_kernels(self) -> None:
        """Compile the masking kernels for this GPU; ``mask`` and ``scale`` need them.

        Raises:
            EnvironmentFault: there is no NVRTC, or none for this GPU.
        """
        if self._module is None:
            self._module = answer(self._cuda.cuModuleLoadData(compile_kernels(self._gpu.compute_capability)))
            for name in KERNELS:
                self._kernels[name] = answer(self._cuda.cuModuleGetFunction(self._module, name.encode()))

    def mask(self, out: int, bank: int, ranks: int, count: int, task: int, itemsize: int) -> None:
        """``out[i] = bank[i] if ranks[i] < task else 0`` for ``count`` weights of ``itemsize`` bytes."""
        arguments = ((_POINTER, out), (_POINTER, bank), (_POINTER, ranks), (_U64, count), (_U32, task))
        self._launch(MASK[itemsize], -(-count * itemsize // VECTOR), arguments)

    def scale(self, weights: int, ratios: int, count: int, inner: int, channels: int, precision: str) -> None:
        """``weights[i] *= ratios[i // inner % channels]``, in float32, rounded to ``precision``."""
        arguments = ((_POINTER, weights), (_POINTER, ratios), (_U64, count), (_U64, inner), (_U32, channels))
        self._launch(SCALE[precision], count, arguments)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """What ``enqueue`` enqueues, as a CUDA graph for ``replay``; none of it runs yet."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        answer(self._cuda.cuStreamBeginCapture(self._stream, mode))
        recorded = None
        try:
            try:
                enqueue()
            finally:  # the stream takes nothing else before the capture has ended
                code, recorded = self._cuda.cuStreamEndCapture(self._stream)
            answer((code,))
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
            self._cuda.cuGraphExecDestroy(self._graphs.pop())

    def synchronise(self) -> None:
        """Wait until all that was enqueued is done.

        Raises:
            EnvironmentFault: some of it failed.
        """
        answer(self._cuda.cuStreamSynchronize(self._stream))

    def close(self) -> None:
        """Give everything back; whoever runs on this stream must have been let go of before. Twice is harmless."""
        if self._context is None:
            return
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
        self._cuda.cuDevicePrimaryCtxRelease(self._device)
        self._context = None

    def _free(self) -> int:
        code, free, _ = self._cuda.cuMemGetInfo()
        return int(answer((code, free)))

    def _launch(self, kernel: str, threads: int, arguments: tuple[tuple[Any, int], ...]) -> None:
        if threads:
            types, values = zip(*arguments, strict=True)
            blocks = -(-threads // BLOCK)
            answer(
                self._cuda.cuLaunchKernel(
                    self._kernels[kernel], blocks, 1, 1, BLOCK, 1, 1, 0, self._stream, (values, types), 0
                )
            )
