"""A plan that runs: load it, say which task, infer.

    with Engine.load(Path("birds.plan"), Pack.open("birds.pack")) as engine:
        engine.set_task("flowers")
        logits = engine.infer(images)

An engine has one stream and one execution context. Any thread may call it; calls wait for each other, so that a switch
never meets a request half-way. Threads that are to run at the same time take an engine each (docs/running.md).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import IMAGES, LOGITS, Float32Array
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.check import SWITCHED_BY_WEIGHTS, check_bank, check_plan, load_checked_bank, read_plan
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.flavour import Flavour, load_flavour
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.loader import LoadedEngine
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar
from packnet_deploy.trt.switch import Switch, switch_of


class Engine:
    """A plan on the GPU, and the task it is at the moment.

    Attributes:
        sidecar: what is known of the plan.
        tasks: those that ``set_task`` knows: of a plan that is switched by weights every task of the pack, also those
            trained after it was built; of others the plan's own.
        task: the current one; None before the first ``set_task``, and after one that failed. A plan of one task has it
            from the start.
    """

    @classmethod
    def load(
        cls,
        plan: Path,
        pack: Pack,
        *,
        bank: str = "device",
        cuda_graph: bool = False,
        weights: EngineBank | None = None,
    ) -> Engine:
        """Check a plan against its sidecar, this machine and the pack, then load it.

        Args:
            pack: the one it was built from, or grown from that.
            bank: ``device``, or ``host``: there the masks' source takes no GPU memory, and a switch takes longer.
            cuda_graph: run each size of batch as one CUDA graph, captured when it first comes.
            weights: the pack's for this plan, from whoever has loaded them already, as a build has.

        Raises:
            UsageError: ``bank`` is neither.
            EnvironmentFault: no GPU, no TensorRT, no NVRTC, too little memory.
            ArtefactError: plan, sidecar, pack and machine do not fit together; nothing of the plan has run.
        """
        sidecar = read_sidecar(plan)
        flavour = load_flavour(sidecar.flavour)
        gpu = expect_gpu("running an engine")
        content = check_plan(plan, sidecar, pack, flavour, gpu)
        if sidecar.switch not in SWITCHED_BY_WEIGHTS:
            weights = None
        elif weights is None:
            weights = load_checked_bank(plan, sidecar, pack)
        else:
            check_bank(plan, sidecar, weights)
        return cls(plan, content, sidecar, weights, flavour, Device(gpu), bank=bank, cuda_graph=cuda_graph)

    def __init__(
        self,
        plan: Path,
        content: bytes,
        sidecar: Sidecar,
        weights: EngineBank | None,
        flavour: Flavour,
        device: Device,
        *,
        bank: str = "device",
        cuda_graph: bool = False,
    ) -> None:
        """Take what ``load`` has checked; the device is closed with the engine, or if this fails."""
        self.sidecar = sidecar
        self.task: str | None = None
        self._plan, self._flavour, self._device = plan, flavour, device
        self._cuda_graph = cuda_graph
        self._graph: Any = None  # of batches of `_settled` images
        self._settled = 0  # images in the last batch that TensorRT itself enqueued on this engine, with these weights
        self._ran = 0  # images in the last batch
        self._lock = threading.Lock()
        self._closed = False
        self._loaded: LoadedEngine | None = None
        self._switch = Switch()
        named = sidecar.tasks if weights is None else [task.entry for task in weights.tasks]
        self._classes = {task.name: task.classes for task in named}
        self.tasks = tuple(self._classes)
        try:
            most, classes = sidecar.batch.most, sidecar.classes
            self._images = device.pinned(4 * most * int(np.prod(sidecar.input.shape))).view(np.float32)
            self._images = self._images.reshape(most, *sidecar.input.shape)
            self._logits = device.pinned(4 * most * classes).view(np.float32).reshape(most, classes)
            self._addresses = {
                IMAGES: device.allocate(self._images.nbytes),
                LOGITS: device.allocate(self._logits.nbytes),
            }
            self._switch = switch_of(sidecar, device, weights, bank)
            self._load(content)
        except BaseException:
            self.close()
            raise
        if sidecar.switch == "none":
            self.task = self.tasks[0]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the GPU's memory, when requests under way are done. Twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed, self.task = True, None
                self._unload()
                self._device.close()

    @property
    def device_bytes(self) -> int:
        """GPU memory taken since this engine began to load, as the driver counts it: plan, context, weights, buffers.

        Others who took or gave back memory meanwhile are in it; the CUDA context itself is not.
        """
        with self._ready():
            return self._device.used

    def set_task(self, name: str) -> None:
        """Become a task; done when this returns. The current one costs nothing.

        Raises:
            UsageError: no such task; lists them. Nothing has changed.
            ArtefactError: TensorRT refused the weights. The engine has been loaded again and is no task.
            EnvironmentFault: the GPU failed; likewise.
        """
        if name not in self._classes:
            raise UsageError(f"task: expected one of {', '.join(self.tasks)}, got {name!r}")
        with self._ready():
            if name == self.task:
                return
            self.task = None
            if self._loaded is None:  # loading it again failed, the last time
                self._load(read_plan(self._plan, self.sidecar))
            try:
                self._device.synchronise()
                self._switch.to(name)
                self._device.synchronise()
            except BaseException:
                if self._switch.replaces_weights:  # some of them, perhaps
                    self._unload()
                    self._load(read_plan(self._plan, self.sidecar))
                raise
            if self._switch.replaces_weights:
                self._forget_graph()
            self.task = name

    def infer(self, images: Float32Array) -> Float32Array:
        """Logits of the current task.

        Args:
            images: normalised, float32 ``[n, c, h, w]``, n from 1 up: more than the plan takes at once go in parts,
                fewer are filled up with empty images.

        Returns:
            float32 ``[n, classes of the task]``.

        Raises:
            UsageError: images of another shape or type, or no task is set.
            ArtefactError: TensorRT cannot run the plan.
        """
        shape = self.sidecar.input.shape
        if images.dtype != np.float32 or images.shape[1:] != shape or len(images) == 0:
            raise UsageError(
                f"images: expected float32 [n, {', '.join(map(str, shape))}], got {images.dtype} "
                f"{list(images.shape)}; resize and normalise them as the pack's input says"
            )
        with self._ready():
            if self.task is None:
                raise UsageError(f"task: none is set; call set_task with one of {', '.join(self.tasks)}")
            logits = np.empty((len(images), self._classes[self.task]), np.float32)
            most = self.sidecar.batch.most
            for start in range(0, len(images), most):
                logits[start : start + most] = self._infer_part(images[start : start + most])[:, : logits.shape[1]]
            return logits

    def run_again(self) -> None:
        """Run the last batch once more and wait, copying nothing: for measurements of the engine alone.

        Raises:
            UsageError: nothing has run yet on this engine.
        """
        with self._ready():
            if not self._ran:
                raise UsageError("run_again: expected a batch on the GPU, none has run yet; call infer first")
            self._run(self._ran)
            self._device.synchronise()

    def _infer_part(self, images: Float32Array) -> Float32Array:
        """Logits of at most one batch, those of all classes; they stay until the next call."""
        count = len(images)
        batch = max(count, self.sidecar.batch.least)
        self._images[:count], self._images[count:batch] = images, 0
        self._device.upload(self._addresses[IMAGES], self._images[:batch])
        self._run(batch)
        self._device.download(self._logits[:batch], self._addresses[LOGITS])
        self._device.synchronise()
        return self._logits[:count]

    def _run(self, batch: int) -> None:
        """Enqueue the batch that lies in the input buffer.

        A graph is captured when the same size comes twice, since TensorRT does some of its work at the first; and only
        one is kept, since a graph holds on to the state in which the context was for that size.
        """
        loaded, stream = self._loaded, self._device.stream
        assert loaded is not None
        if self._cuda_graph and batch == self._settled:
            if self._graph is None:
                self._graph = self._device.capture(lambda: loaded.enqueue(batch, stream))
            self._device.replay(self._graph)
        else:
            self._forget_graph()
            loaded.enqueue(batch, stream)
            self._settled = batch
        self._ran = batch

    def _load(self, content: bytes) -> None:
        loaded = LoadedEngine(self._plan, content, self.sidecar, self._flavour)
        loaded.bind({**self._addresses, **self._switch.inputs})
        self._switch.attach(loaded)
        self._loaded = loaded

    def _unload(self) -> None:
        with contextlib.suppress(EnvironmentFault):  # what is enqueued must not meet an engine that is gone
            self._device.make_current()
            self._device.synchronise()
        self._forget_graph()
        self._ran = 0
        self._switch.detach()
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None

    def _forget_graph(self) -> None:
        self._device.forget_graphs()
        self._graph, self._settled = None, 0

    @contextlib.contextmanager
    def _ready(self) -> Iterator[None]:
        """The engine, to this thread alone."""
        with self._lock:
            if self._closed:
                raise RuntimeError("Engine: it is closed; load it again")
            self._device.make_current()
            yield
