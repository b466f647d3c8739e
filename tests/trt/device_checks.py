"""What test_device.py runs, each in a process of its own in which the CUDA driver is the stand-in: ``NAME FOLDER``."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.device import Device, Owners
from packnet_deploy.trt.difference import order_by_owner
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.gpu import expect_gpu
from packnet_deploy.trt.sidecar import Gpu

GPU = Gpu("Stand-in GPU", "8.6", "13.2", 8 << 30)


def not_given_back() -> int:
    return int(ctypes.CDLL("libcuda.so.1").stand_in_live())


def the_gpu(folder: Path) -> None:
    assert expect_gpu("testing") == GPU


def memory_and_copies(folder: Path) -> None:
    device = Device(GPU)
    assert device.stream != 0
    addresses = [device.allocate(size) for size in (1, 1000, 0)]
    assert all(address % 256 == 0 for address in addresses)
    assert device.used == 1 + 1000 + 1
    sent, received = device.pinned(1000), device.pinned(1000)
    sent[:] = np.arange(1000) % 251
    device.upload(addresses[1], sent[10:])
    device.upload(addresses[1], sent[:0])
    device.wait_for(0)
    device.download(received[:990], addresses[1])
    device.hold_up(0)
    device.synchronise()
    np.testing.assert_array_equal(received[:990], sent[10:])
    with pytest.raises(
        EnvironmentFault, match=r"1,099,511,627,776 bytes needed, 8,\d{3},\d{3},\d{3} free; keep the bank on"
    ):
        device.allocate(1 << 40)
    device.close()
    device.close()


def kernels(folder: Path) -> None:
    """A bank in page-locked memory: two owners written by one launch, then one of them cleared."""
    device = Device(GPU)
    device.load_kernels()
    device.load_kernels()
    rng = np.random.default_rng(0)
    values, ranks = rng.normal(size=9000).astype(np.float16), rng.choice([0, 1, 2, 255], 9000).astype(np.uint8)
    bank = order_by_owner(values, ranks, 3)
    parts = []
    for array in (bank.values, bank.masks, bank.before):
        memory = device.pinned(array.nbytes)
        memory[:] = array.reshape(-1).view(np.uint8)
        parts.append(device.address_of(memory))
    out, there, got = device.allocate(18000), device.allocate(18000), np.empty(9000, np.float16)
    device.clear(out, 18000)
    device.write_owners(out, parts[0], Owners(*parts[1:], bank.tiles, 2, 0, 9000, 2))
    device.copy(there, out, 18000)
    device.download(got, there)
    device.synchronise()
    np.testing.assert_array_equal(got, np.where(ranks < 2, values, 0))
    masks, before = parts[1] + bank.masks[0].nbytes, parts[2] + bank.before[0].nbytes
    device.clear_owners(out, Owners(masks, before, bank.tiles, 1, 0, 9000, 2))
    device.download(got, out)
    device.synchronise()
    np.testing.assert_array_equal(got, np.where(ranks < 1, values, 0))
    device.close()


def the_context_stays(folder: Path) -> None:
    """One for the process: what TensorRT left in it must not go with the last engine."""
    for _ in range(2):
        Device(GPU).close()
    assert ctypes.CDLL("libcuda.so.1").stand_in_contexts() == 1


def another_gpu(folder: Path) -> None:
    """The second of the two; each has a context of its own."""
    for index in (1, 0):
        device = Device(expect_gpu("testing", index), index)
        assert ctypes.CDLL("libcuda.so.1").stand_in_gpu_of_stream() == index
        device.allocate(1)
        device.close()
    with pytest.raises(EnvironmentFault, match=r"testing: cuda:2: no such GPU here"):
        expect_gpu("testing", 2)


def graphs(folder: Path) -> None:
    device = Device(GPU)
    here, there = device.allocate(4), device.allocate(4)
    number, got = np.array([7], np.int32), np.zeros(1, np.int32)
    device.upload(there, got)
    graph = device.capture(lambda: device.upload(there, number))
    device.download(got, there)
    device.synchronise()
    assert got[0] == 0  # captured, not run
    device.replay(graph)
    device.download(got, there)
    device.synchronise()
    assert got[0] == 7

    again = device.capture(lambda: device.upload(there, got), graph)
    assert again is graph  # brought up to date: the driver takes it
    longer = device.capture(lambda: [device.upload(there, got), device.upload(there, number)], graph)
    assert longer is not graph  # it does not: another in its place

    def fails() -> None:
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        device.capture(fails)
    device.upload(here, number)  # the stream takes work again
    device.synchronise()
    device.forget_graphs()
    device.capture(lambda: device.upload(here, number))
    device.close()


def the_gpus_clock(folder: Path) -> None:
    device = Device(GPU)
    here, number = device.allocate(4), np.array([7], np.int32)
    assert device.timed(lambda: device.upload(here, number)) == 0.25
    device.close()


def another_thread(folder: Path) -> None:
    """A context has to be made current in every thread."""
    device = Device(GPU)
    failed: list[bool] = []

    def work() -> None:
        try:
            device.allocate(1)
        except EnvironmentFault:
            failed.append(True)
        device.make_current()
        device.allocate(1)
        failed.append(False)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == [True, False]
    device.close()


def failures(folder: Path) -> None:
    device = Device(GPU)
    os.environ["STAND_IN_FAILS"] = "cuStreamSynchronize"
    with pytest.raises(
        EnvironmentFault, match="the CUDA driver says CUDA_ERROR_ILLEGAL_ADDRESS; check it with nvidia-smi"
    ):
        device.synchronise()
    device.close()  # gives back what it can


def no_gpu(folder: Path) -> None:
    with pytest.raises(EnvironmentFault, match="testing needs an NVIDIA GPU and its driver, there is none here"):
        expect_gpu("testing")


def an_engine(folder: Path) -> None:
    """Everything but TensorRT: the real device, on the stand-in driver, through NVRTC and Python's CUDA package."""
    for name in ("export", "trt"):
        sys.path.append(str(Path(__file__).parents[1] / name))
    from stand_in import StandInTensorRT
    from stand_in_plans import growing_pack, write_plan

    from packnet_deploy.pack import probe_batch

    class DeviceOfStandIn(Device):
        """Where TensorRT's stand-in enqueues; streams of the driver's stand-in run everything at once."""

        def __init__(self, gpu: Gpu, index: int) -> None:
            super().__init__(gpu, index)
            self.log: list[str] = []
            self.allocated, self.before_run = 0, None
            opened.append(self)

        def enqueue(self, what: str, work: Callable[[], None]) -> None:
            work()

    class TensorRT(StandInTensorRT):
        """Learns of its device when that is opened."""

        device = property(lambda self: opened[-1], lambda self, value: None)

    opened: list[DeviceOfStandIn] = []
    pack = growing_pack(folder / "tiny.pack")
    engine_module.Device = DeviceOfStandIn
    for switch, bank in itertools.product(("refit", "bind"), ("device", "host")):
        engine_module.load_flavour = lambda name, switch=switch: TensorRT(None, switch).flavour
        write_plan(folder / "tiny.plan", pack, switch)
        with Engine.load(folder / "tiny.plan", pack, bank=bank) as engine:
            assert engine.device_bytes > 0
            for task in ("two", "one", "three"):
                engine.set_task(task)
                logits = engine.infer(probe_batch(pack.input))
                np.testing.assert_allclose(logits, pack.load_task(task).probe_logits, rtol=1e-4, atol=1e-4)
        assert not_given_back() == 0
    plan = folder / "tiny.plan"
    with Engine.load(plan, pack, resident=2) as engine:
        for task in ("two", "one", "three"):
            logits = engine.infer(probe_batch(pack.input), task)
            np.testing.assert_allclose(logits, pack.load_task(task).probe_logits, rtol=1e-4, atol=1e-4)
    assert not_given_back() == 0


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
    assert not_given_back() == 0, not_given_back()
