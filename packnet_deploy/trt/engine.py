"""A plan that runs: load it, infer.

    with Engine.load(Path("birds.plan"), Pack.open("birds.pack")) as engine:
        logits = engine.infer(images, task="flowers")

A request carries its task: any thread may call, and each gets its own task's logits, whatever others ask for meanwhile.
Requests take turns on one lane (lane.py); with ``resident`` lanes so many run side by side, each at a task of its own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.pack.directory import Pack
from packnet_deploy.runners.contract import Float32Array
from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.buffer import PlacedBank
from packnet_deploy.trt.check import SWITCHED_BY_WEIGHTS, check_bank, check_plan, load_checked_bank, read_plan
from packnet_deploy.trt.device import Device
from packnet_deploy.trt.flavour import Flavour, load_flavour
from packnet_deploy.trt.gpu import expect_gpu, gpu_index
from packnet_deploy.trt.inspection import Layer, with_times
from packnet_deploy.trt.lane import Lane, Lanes
from packnet_deploy.trt.loader import LoadedEngine
from packnet_deploy.trt.placement import place, sizes_of
from packnet_deploy.trt.refit import Refit
from packnet_deploy.trt.sidecar import Sidecar, read_sidecar
from packnet_deploy.trt.switch import Bind, Select, Switch
from packnet_deploy.trt.tensors import GpuTensor, checked_images, checked_out

log = logging.getLogger(__name__)
Tensor = TypeVar("Tensor")


class Engine:
    """A plan on the GPU.

    Attributes:
        task: what ``infer`` takes where it is not told a task: the last one that was set; None before the first. A plan
            of one task is that one.
        tasks: those it can be: for refit and bind all of the pack's, later ones too, else those it was built with.
    """

    @classmethod
    def load(
        cls,
        plan: Path,
        pack: Pack,
        *,
        bank: str = "host",
        resident: int = 1,
        cuda_graph: bool = False,
        runtime_cache: Path | None = None,
        device: str = "cuda",
        weights: EngineBank | None = None,
    ) -> Engine:
        """Check everything (check.py), then load the plan; no task is set yet, unless it is a plan of one.

        Args:
            pack: the one it was built from, or grown from that. The engine holds nothing of it when this returns.
            bank: for refit and bind, where the bank that tasks are switched from lies: in page-locked memory of the
                ``host``, so that one model's weights are on the GPU whatever the number of tasks; or on the ``device``,
                from where a switch is faster and which takes one or two models more.
            resident: how many requests run at the same time. With switch bind each has a task's weights of its own on
                the GPU, one model more for each, and a switch among tasks that are there costs nothing. 1 for refit.
            cuda_graph: capture an inference once and replay it; pays for small networks and batches. Where it cannot be
                captured it runs without, and the log says so once.
            runtime_cache: for TensorRT-RTX, which compiles kernels when an engine first runs: a file that it takes them
                from, and that is written when the engine is closed. A plan, once run, starts faster.
            device: ``cuda``, the first GPU, or ``cuda:N``.
            weights: the pack's for this plan, from whoever has loaded them already, as a build has.

        Raises:
            ArtefactError: plan, sidecar, pack, TensorRT and GPU do not fit together, or one is damaged.
            EnvironmentFault: no GPU, no TensorRT, no NVRTC, too little memory.
            UsageError: an unknown ``bank``, no such ``resident``, or a value of a later task does not fit the plan's
                precision.
        """
        sidecar = read_sidecar(plan)
        if resident < 1 or (resident > 1 and sidecar.switch == "refit"):
            least = "1 up" if sidecar.switch != "refit" else "1, since a refit replaces the weights of the engine"
            raise UsageError(f"resident: expected {least}, got {resident}; build with --switch bind to hold several")
        flavour = load_flavour(sidecar.flavour)
        if runtime_cache is not None and flavour.times_kernels:
            raise UsageError(f"runtime cache: {flavour.name} compiles nothing when an engine runs; leave it out")
        index = gpu_index(device)
        gpu = expect_gpu("running an engine", index)
        content = check_plan(plan, sidecar, pack, flavour, gpu)
        if sidecar.switch not in SWITCHED_BY_WEIGHTS:
            weights = None
        elif weights is None:
            weights = load_checked_bank(plan, sidecar, pack)
        else:
            check_bank(plan, sidecar, weights)
        devices: list[Device] = []
        try:
            devices += (Device(gpu, index) for _ in range(resident))
        except BaseException:
            for opened in devices:
                opened.close()
            raise
        return cls(
            plan,
            content,
            sidecar,
            weights,
            flavour,
            devices,
            bank=bank,
            cuda_graph=cuda_graph,
            runtime_cache=runtime_cache,
        )

    def __init__(
        self,
        plan: Path,
        content: bytes,
        sidecar: Sidecar,
        weights: EngineBank | None,
        flavour: Flavour,
        devices: Sequence[Device],
        *,
        bank: str = "host",
        cuda_graph: bool = False,
        runtime_cache: Path | None = None,
    ) -> None:
        """Take what ``load`` has checked, a device for each lane; they are closed with the engine, or if this fails."""
        self.sidecar = sidecar
        self.task: str | None = None
        self._plan, self._flavour, self._devices = plan, flavour, devices
        self._cuda_graph, self._runtime_cache = cuda_graph, runtime_cache
        self._loaded: LoadedEngine | None = None
        self._lanes = Lanes([])
        entries = list(sidecar.tasks) if weights is None else [task.entry for task in weights.tasks]
        self._classes = {entry.name: entry.classes for entry in entries}
        self._indices = {entry.name: entry.index for entry in entries}
        self.tasks = tuple(self._classes)
        try:
            loaded = LoadedEngine(plan, content, sidecar, flavour)
            switches = _switches(sidecar, devices, weights, bank, loaded.channels_last)
            self._lanes = Lanes([Lane(d, sidecar, s, cuda_graph) for d, s in zip(devices, switches, strict=True)])
            self._take(loaded)
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
        if not self._lanes.close():
            return
        self.task = None
        self._save_compiled()
        self._unload()
        for device in self._devices:
            device.close()

    @property
    def device_bytes(self) -> int:
        """GPU memory taken since this engine began to load, as the driver counts it: plan, context, weights, buffers.

        Others who took or gave back memory meanwhile are in it; the CUDA context itself is not.
        """
        with self._lanes.take():
            return self._devices[0].used

    def set_task(self, name: str) -> None:
        """What ``infer`` takes from now on where it is not told, switched to when this returns.

        Raises:
            UsageError: no such task; lists them. Nothing has changed.
            ArtefactError: TensorRT refused the weights. The engine has been loaded again, and no task is set.
            EnvironmentFault: the GPU failed; likewise.
        """
        index = self._index(name)
        self.task = None
        with self._lanes.take(index) as lane:
            self._switch(lane, name)
        self.task = name

    @overload
    def infer(self, images: Any, task: str | None = None, *, out: None = None, stream: int = 0) -> Float32Array: ...

    @overload
    def infer(self, images: Any, task: str | None = None, *, out: Tensor, stream: int = 0) -> Tensor: ...

    def infer(self, images: Any, task: str | None = None, *, out: Any = None, stream: int = 0) -> Any:
        """Logits of a task, all of one and the same whatever other threads ask for.

        Args:
            images: normalised, float32 ``[n, c, h, w]``, of numpy or of any library whose arrays tensors.py can read
                where they lie. On the host, n from 1 up: more than the plan takes at once go in parts, fewer are filled
                up with empty images. On the GPU, as many as the plan takes at once.
            task: whose; the one that was set where it is not said. Switching to it is in the time that this takes.
            out: for images on the GPU, float32 ``[n, classes of the engine]`` there: logits are written to it, those
                beyond the task's classes mean nothing, and nobody waits for it but ``stream``.
            stream: for images on the GPU, the CUDA stream on which they are made, as a number; 0 for the default one.

        Returns:
            float32 ``[n, classes of the task]``, of numpy; or ``out``.

        Raises:
            UsageError: images or ``out`` of another shape or type, no such task, or none said and none set.
            ArtefactError: TensorRT cannot run the plan, or refuses the weights.
            EnvironmentFault: the GPU failed.
        """
        batch, classes = self.sidecar.batch, self.sidecar.classes
        images = checked_images(images, self.sidecar.input.shape, batch.least, batch.most)
        there = None if out is None else checked_out(out, images, classes)
        name = self.task if task is None else task
        index = 0 if name is None else self._index(name)
        with self._lanes.take(index) as lane:
            if name is None:
                raise UsageError(f"task: none is set; say one of {', '.join(self.tasks)}, or call set_task")
            self._switch(lane, name)
            classes = self._classes[name]
            if isinstance(images, GpuTensor):
                logits = lane.infer_there(images, there, stream)
                return out if logits is None else logits[:, :classes].copy()
            logits = np.empty((len(images), classes), np.float32)
            for start in range(0, len(images), batch.most):
                logits[start : start + batch.most] = lane.infer(images[start : start + batch.most])[:, :classes]
            return logits

    def run_again(self) -> None:
        """Run the last batch once more and wait, copying nothing: for measurements of the engine alone.

        Raises:
            UsageError: nothing has run yet on this engine.
        """
        with self._last_batch() as lane:
            lane.run(lane.ran)
            lane.device.synchronise()

    def time_again(self) -> float:
        """The same; milliseconds that the GPU took for it, by its own clock.

        Raises:
            UsageError: as ``run_again``.
        """
        with self._last_batch() as lane:
            return lane.device.timed(lambda: lane.run(lane.ran))

    def profile(self, runs: int = 20) -> tuple[Layer, ...]:
        """``layers`` with the time of each, of the last batch once more; slower than it runs otherwise.

        Raises:
            UsageError: as ``run_again``.
        """
        with self._last_batch() as lane:
            times = lane.profile(runs)
        return with_times(self.layers(), times)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as it was asked for, a sentence each."""
        return tuple(dict.fromkeys(lane.note for lane in self._lanes.all if lane.note))

    @contextlib.contextmanager
    def _last_batch(self) -> Iterator[Lane]:
        """The lane on which a batch was run last."""
        with self._lanes.take(latest=True) as lane:
            if not lane.ran:
                raise UsageError("expected a batch on the GPU to run again, none has run yet; call infer first")
            yield lane

    def layers(self) -> tuple[Layer, ...]:
        """The engine's layers and their kernels, as TensorRT tells them."""
        with self._lanes.take():
            return () if self._loaded is None else self._loaded.layers()

    def _index(self, name: str) -> int:
        if name not in self._indices:
            raise UsageError(f"task: expected one of {', '.join(self.tasks)}, got {name!r}")
        return self._indices[name]

    def _switch(self, lane: Lane, name: str) -> None:
        """Make the lane that task's; the one that it is costs nothing."""
        index = self._indices[name]
        if lane.task == index:
            return
        if self._loaded is None:  # loading it again failed, the last time
            self._load_again()
        try:
            lane.become(index)
        except BaseException:
            if lane.switch.replaces_weights:  # some of them, perhaps
                self._unload()
                self._load_again()
            raise

    def _load_again(self) -> None:
        self._take(LoadedEngine(self._plan, read_plan(self._plan, self.sidecar), self.sidecar, self._flavour))

    def _take(self, loaded: LoadedEngine) -> None:
        loaded.configure(self._cuda_graph, self._runtime_cache)
        for lane in self._lanes.all:
            lane.device.make_current()
            lane.load(loaded)
        self._loaded = loaded

    def _save_compiled(self) -> None:
        """Write the kernels that were compiled. Nothing is lost but time where that fails, so it is logged alone."""
        if self._loaded is None or self._runtime_cache is None:
            return
        with contextlib.suppress(EnvironmentFault):
            self._lanes.all[0].device.make_current()
            self._lanes.all[0].device.synchronise()
        try:
            content = self._loaded.compiled()
            if content:
                with replacing(self._runtime_cache) as file:
                    file.write(content)
        except OSError as error:
            log.warning("%s: cannot be written (%s)", self._runtime_cache, error.strerror)

    def _unload(self) -> None:
        for lane in self._lanes.all:
            with contextlib.suppress(EnvironmentFault):  # what is enqueued must not meet an engine that is gone
                lane.device.make_current()
                lane.device.synchronise()
            lane.unload()
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None


def _switches(
    sidecar: Sidecar, devices: Sequence[Device], bank: EngineBank | None, where: str, channels_last: Collection[str]
) -> list[Switch]:
    """The sidecar's way to switch, for each lane; their memory taken."""
    if sidecar.switch == "selector":
        return [Select(device, len(sidecar.tasks)) for device in devices]
    if bank is None:
        return [Switch() for _ in devices]
    placement = place(sizes_of(bank), sidecar.switch, where)
    for device in devices:
        device.load_kernels()
    placed = PlacedBank(devices[0], bank, placement, channels_last)
    if sidecar.switch == "refit":
        return [Refit(devices[0], bank, placed, sidecar, placement.scratch)]
    return [Bind(device, placed) for device in devices]
