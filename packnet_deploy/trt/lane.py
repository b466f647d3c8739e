"""One request at a time through an engine: a stream, a context, memory for images and logits, and the task it is at.

Lanes of one engine run side by side. A request takes one that is at its task, else the one that was idle for longest;
else it waits.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.runners.contract import IMAGES, LOGITS, Float32Array
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.loader import Context, LoadedEngine
from packnet_deploy.trt.sidecar import Sidecar
from packnet_deploy.trt.switch import Switch
from packnet_deploy.trt.tensors import GpuTensor

log = logging.getLogger(__name__)


class Lane:
    """A way through an engine.

    Attributes:
        task: the index of the task whose weights it has; 0 for none, or for nobody knows.
        ran: images in the last batch; 0 before the first.
        note: why it runs without the CUDA graph that it was asked for; "" as long as nothing stands against one.
    """

    def __init__(self, device: Device, sidecar: Sidecar, switch: Switch, cuda_graph: bool) -> None:
        """Take the memory for requests, which ``device`` gives back.

        Raises:
            EnvironmentFault: too little of it.
        """
        self.device, self.switch = device, switch
        self.task = self.ran = 0
        self.note = ""
        self._least, most = sidecar.batch.least, sidecar.batch.most
        self._cuda_graph = cuda_graph
        self._graph: Any = None  # of batches of `_settled` images
        self._stale = False  # the graph is of other weights
        self._settled = 0  # images in the last batch that TensorRT itself enqueued here
        self._context: Context | None = None
        self._images = device.pinned(4 * most * int(np.prod(sidecar.input.shape))).view(np.float32)
        self._images = self._images.reshape(most, *sidecar.input.shape)
        self._logits = device.pinned(4 * most * sidecar.classes).view(np.float32).reshape(most, sidecar.classes)
        self._addresses = {
            IMAGES: device.allocate(self._images.nbytes),
            LOGITS: device.allocate(self._logits.nbytes),
        }

    def load(self, loaded: LoadedEngine) -> None:
        """Make ready for requests to an engine that was just loaded.

        Raises:
            ArtefactError: it is not the engine that its sidecar describes.
        """
        context = loaded.context()
        context.bind({**self._addresses, **self.switch.inputs})
        self.switch.attach(loaded)
        self._context = context

    def unload(self) -> None:
        """Let go of the engine; what is enqueued ends first."""
        self._forget_graph()
        self.task = self.ran = 0
        self.switch.forget()
        self.switch.detach()
        if self._context is not None:
            self._context.close()
        self._context = None

    def become(self, task: int) -> None:
        """Switch; done when this returns.

        Raises:
            ArtefactError: TensorRT refuses it. With ``switch.replaces_weights`` the engine must be loaded again.
            EnvironmentFault: the GPU failed; likewise.
        """
        self.task = 0
        try:
            self.switch.to(task)
            self.device.synchronise()
        except BaseException:
            self.switch.forget()
            raise
        self._stale |= self.switch.replaces_weights
        self.task = task

    def infer(self, images: Float32Array) -> Float32Array:
        """Logits of at most one batch, those of all classes; they stay until the next call."""
        count = len(images)
        batch = max(count, self._least)
        self._images[:count], self._images[count:batch] = images, 0
        self.device.upload(self._addresses[IMAGES], self._images[:batch])
        self.run(batch)
        self.device.download(self._logits[:batch], self._addresses[LOGITS])
        self.device.synchronise()
        return self._logits[:count]

    def infer_there(self, images: GpuTensor, out: GpuTensor | None, stream: int) -> Float32Array | None:
        """The same of images on the GPU, read where they lie, when ``stream`` has come that far.

        Args:
            out: where logits of all classes go, for which ``stream`` then waits; None to have them here.
        """
        context, batch = self._context, images.shape[0]
        assert context is not None
        if batch != self._settled:
            self._forget_graph()
        self.device.wait_for(stream)
        context.bind({IMAGES: images.address} | ({} if out is None else {LOGITS: out.address}))
        try:
            context.enqueue(batch, self.device.stream)
        finally:
            context.bind(self._addresses)
        self._settled = batch
        if out is not None:
            self.device.hold_up(stream)
            return None
        self.device.download(self._logits[:batch], self._addresses[LOGITS])
        self.device.synchronise()
        return self._logits[:batch]

    def run(self, batch: int) -> None:
        """Enqueue the batch that lies in the input buffer.

        A graph is captured when the same size comes twice, since TensorRT does some of its work at the first; and only
        one is kept, since a graph holds on to the state in which the context was for that size.
        """
        context = self._context
        assert context is not None
        if self._cuda_graph and not context.captures and batch == self._settled:
            self._run_captured(context, batch)
        else:
            if batch != self._settled:
                self._forget_graph()
            context.enqueue(batch, self.device.stream)
            self._settled = batch
        self.ran = batch

    def profile(self, runs: int) -> list[dict[str, float]]:
        """Run the last batch so often, without a CUDA graph; each time, milliseconds by the layer's name."""
        context = self._context
        assert context is not None
        return [context.profile(self.ran, self.device.stream, self.device.synchronise) for _ in range(runs)]

    def _run_captured(self, context: Context, batch: int) -> None:
        device = self.device
        if self._graph is None or self._stale:
            try:
                if not context.may_be_captured(device.stream):
                    raise EnvironmentFault("TensorRT says that it cannot be captured on this stream")
                self._graph = device.capture(lambda: context.enqueue(batch, device.stream), self._graph)
                self._stale = False
            except (EnvironmentFault, ArtefactError) as reason:
                self.note = f"CUDA graph: {reason}; running without one"
                log.warning(self.note)
                self._cuda_graph = False
                self._forget_graph()
                context.enqueue(batch, device.stream)
                return
        device.replay(self._graph)

    def _forget_graph(self) -> None:
        self.device.forget_graphs()
        self._graph, self._settled, self._stale = None, 0, False


class Lanes:
    """The lanes of one engine.

    Attributes:
        all: of them, whoever has them.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.all = tuple(lanes)
        self._turn = threading.Condition()
        self._free = list(lanes)  # the one that was used last comes last
        self._closed = False

    @contextlib.contextmanager
    def take(self, task: int = 0, latest: bool = False) -> Iterator[Lane]:
        """A lane, to this thread alone, its GPU made current there.

        Args:
            task: the index of the task that it is for; 0 for none.
            latest: the one that was used last, whatever its task.

        Raises:
            RuntimeError: closed.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._closed or self._free)
            if self._closed:
                raise RuntimeError("Engine: it is closed; load it again")
            lane = self._free[-1 if latest else 0]
            lane = next((free for free in self._free if task and free.task == task), lane)
            self._free.remove(lane)
        try:
            lane.device.make_current()
            yield lane
        finally:
            with self._turn:
                self._free.append(lane)
                self._turn.notify_all()

    def close(self) -> bool:
        """Let no request have a lane any more, and wait for those under way; False if that was done before."""
        with self._turn:
            if self._closed:
                return False
            self._closed = True
            self._turn.notify_all()  # whoever waits for a lane need not any longer
            self._turn.wait_for(lambda: len(self._free) == len(self.all))
            return True
