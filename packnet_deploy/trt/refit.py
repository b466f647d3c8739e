"""Refitting by the difference: TensorRT is given the weights that differ, group by group, out of a small buffer.

A subset is legal as long as TensorRT misses nothing; what it misses when it is given one weight alone, it has merged
with that one, and the two go together (groups.py). The first switch after loading gives everything. A weight that is
larger than the buffer (VGG-16's first linear layer is three quarters of the network) is written into page-locked host
memory by the same kernels, and TensorRT takes it from there: over the bus twice, but no second copy on the GPU.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from packnet_deploy.trt.bank import EngineBank
from packnet_deploy.trt.buffer import NOTHING, PlacedBank
from packnet_deploy.trt.device import Bytes, Device
from packnet_deploy.trt.groups import Group, clusters_of, differs, groups_of, kinds_of, largest_group
from packnet_deploy.trt.loader import DATA_TYPES, LoadedEngine
from packnet_deploy.trt.sidecar import Sidecar
from packnet_deploy.trt.switch import Switch

MOST_THREADS = 8  # that TensorRT may use to give weights to an engine


class Refit(Switch):
    """One engine's weights, replaced in place."""

    replaces_weights = True

    def __init__(self, device: Device, bank: EngineBank, placed: PlacedBank, sidecar: Sidecar, scratch: int) -> None:
        """Take the memory.

        Args:
            scratch: bytes of the buffer that groups are filled into.
        """
        self._device, self._placed, self._sidecar = device, placed, sidecar
        self._capacity = scratch // placed.layout.dtype.itemsize
        self._scratch = device.allocate(scratch)
        self._large: Bytes = np.empty(0, np.uint8)  # in host memory, for a group that the buffer cannot hold
        self._weights = {weight.name: weight for weight in sidecar.weights}
        self._kinds = kinds_of(bank)
        self._clusters: list[tuple[str, ...]] = []
        self._task: int | None = None  # that the engine is; None for nobody knows what
        self._attached: tuple[LoadedEngine, Any] | None = None

    def attach(self, loaded: LoadedEngine) -> None:
        refitter = loaded.refitter()
        known, ours = set(refitter.get_all_weights()), set(self._weights)
        if known != ours:
            odd = ", ".join(sorted(known ^ ours)[:3])
            raise loaded.failure(
                f"expected the engine to take the {len(ours)} weights that its sidecar names, it takes {len(known)} "
                f"(not in both: {odd})"
            )
        companions = {name: self._companions(loaded, refitter, name) for name in self._weights}
        refitter.max_threads = min(os.cpu_count() or 1, MOST_THREADS)
        self._clusters = clusters_of(list(self._weights), companions)
        needed = largest_group(self._placed.layout, self._clusters)
        if needed > self._capacity and not self._large.size:  # the same engine may be attached again
            self._large = self._device.pinned(needed * self._placed.layout.dtype.itemsize)
        self._attached = loaded, refitter

    def detach(self) -> None:
        self._attached = self._task = None

    def forget(self) -> None:
        self._task = None

    def to(self, task: int) -> None:
        if self._attached is None:
            raise RuntimeError("Refit.to: attach an engine first")
        loaded, refitter = self._attached
        before, self._task = self._task, None
        changed = [cluster for cluster in self._clusters if before is None or self._differs(cluster, before, task)]
        for group in groups_of(self._placed.layout, changed, self._capacity):
            if group[-1].end > self._capacity:
                self._fill(group, task, self._device.address_of(self._large))
                self._device.synchronise()  # TensorRT reads host memory when it is called, not on the stream
                self._give(loaded, refitter, group, self._large.ctypes.data, loaded.api.TensorLocation.HOST)
            else:
                self._fill(group, task, self._scratch)
                self._give(loaded, refitter, group, self._scratch, loaded.api.TensorLocation.DEVICE)
        if before is None and not self._sidecar.sparse_weights:
            refitter.weights_validation = False  # it has seen them all once; a sparse kernel could not stand others
        self._task = task

    def _differs(self, cluster: tuple[str, ...], before: int, task: int) -> bool:
        return any(differs(self._kinds[name], self._weights[name].banked, before, task) for name in cluster)

    def _fill(self, group: Group, task: int, buffer: int) -> None:
        """Make the buffer at this address hold the group's weights."""
        itemsize = self._placed.layout.dtype.itemsize
        for run in group:
            out = buffer + run.at * itemsize
            if run.banked:
                self._device.clear(out, (run.last - run.first) * itemsize)
                self._placed.switch(self._device, out, NOTHING, task, run.first, run.last)
            else:
                self._placed.bring_own(self._device, out, task, run.first, run.last - run.first)

    def _give(self, loaded: LoadedEngine, refitter: Any, group: Group, buffer: int, location: Any) -> None:
        itemsize = self._placed.layout.dtype.itemsize
        given = {
            slot.weight.name: buffer + (run.at + slot.start - run.first) * itemsize
            for run in group
            for slot in run.slots
        }
        for name, address in given.items():
            self._set(loaded, refitter, name, address, location)
        if missing := refitter.get_missing_weights():
            raise loaded.failure(f"TensorRT wants weights besides {', '.join(given)}: {', '.join(missing[:3])}")
        if not refitter.refit_cuda_engine_async(self._device.stream):
            raise loaded.failure(f"TensorRT cannot give the engine other weights ({', '.join(list(given)[:3])})")
        for name in given:
            refitter.unset_named_weights(name)

    def _companions(self, loaded: LoadedEngine, refitter: Any, name: str) -> list[str]:
        """What TensorRT misses when it is given this weight alone; raises where it takes no such weight."""
        weight = self._weights[name]
        kind = getattr(loaded.api.DataType, DATA_TYPES[weight.dtype])
        expected = refitter.get_weights_prototype(name)
        if (expected.dtype, expected.size) != (kind, weight.count):
            raise loaded.failure(
                f"weight '{name}': the sidecar has {weight.count:,} of {weight.dtype}, the engine {expected.size:,} of "
                f"{expected.dtype}"
            )
        self._set(loaded, refitter, name, self._scratch, loaded.api.TensorLocation.DEVICE)
        missing = list(refitter.get_missing_weights())
        refitter.unset_named_weights(name)
        if odd := [other for other in missing if other not in self._weights]:
            raise loaded.failure(f"TensorRT wants weights besides those of its sidecar: {', '.join(odd[:3])}")
        return missing

    def _set(self, loaded: LoadedEngine, refitter: Any, name: str, address: int, location: Any) -> None:
        weight = self._weights[name]
        given = loaded.api.Weights(getattr(loaded.api.DataType, DATA_TYPES[weight.dtype]), address, weight.count)
        if not refitter.set_named_weights(name, given, location):
            raise loaded.failure(f"TensorRT refuses weight '{name}'")
