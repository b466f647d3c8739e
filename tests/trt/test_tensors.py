"""Arrays of other libraries: read where they lie, on the host, and on a GPU as far as a stub of one can show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import growing_pack, write_plan

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.trt import engine as engine_module
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.tensors import GpuTensor, located


class OnGpu:
    """An array as PyTorch or CuPy show theirs; the stand-in's GPU memory is the host's."""

    def __init__(self, array: np.ndarray, device: StandInDevice | None = None, offset: int = 0, **more: object) -> None:
        memory = (device or StandInDevice()).pinned(array.nbytes + offset)[offset:]
        self.array = memory.view(array.dtype).reshape(array.shape)
        self.array[:] = array
        self.keep = memory
        self.__cuda_array_interface__ = {
            "data": (int(self.array.ctypes.data), False),
            "shape": array.shape,
            "typestr": array.dtype.str,
            "version": 3,
            **more,
        }


def test_torch_on_the_host_is_read_where_it_lies() -> None:
    tensor = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    array = located("images", tensor)
    assert isinstance(array, np.ndarray)
    tensor[0, 0, 0] = 7
    assert array[0, 0, 0] == 7


def test_numpy_stays_what_it_is() -> None:
    array = np.zeros(3, np.float64)
    assert located("images", array) is array


def test_an_array_on_the_gpu_is_an_address() -> None:
    tensor = OnGpu(np.zeros((2, 3), np.float32), strides=(12, 4))
    assert located("images", tensor) == GpuTensor(tensor.array.ctypes.data, (2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "images: expected an array of numpy, or one with DLPack .*, got list"),
        (torch.zeros(2, requires_grad=True), "images: expected an array of numpy.*got Tensor"),
        (OnGpu(np.zeros(4, np.float16)), "images: expected contiguous float32 on the GPU, got <f2"),
        (OnGpu(np.zeros((2, 2), np.float32), strides=(4, 8)), r"with strides \(4, 8\); copy it"),
        (OnGpu(np.zeros(4, np.float32), offset=8), "at a multiple of 256 bytes, as TensorRT does"),
    ],
    ids=["a list", "with a gradient", "fp16", "transposed", "a part"],
)
def test_what_cannot_be_read_where_it_lies(given: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        located("images", given)


# ---- given to an engine --------------------------------------------------------------------------------------------


@pytest.fixture
def device() -> StandInDevice:
    return StandInDevice()


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


@pytest.fixture
def engine(pack: Pack, tmp_path: Path, device: StandInDevice, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """For 1 to 4 images; logits of 4 classes."""
    write_plan(tmp_path / "x.plan", pack, "bind")
    monkeypatch.setattr(engine_module, "load_flavour", lambda name: StandInTensorRT(device, "bind").flavour)
    monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engine_module, "Device", lambda gpu, index=0: device)
    return Engine.load(tmp_path / "x.plan", pack)


def test_torch_gives_what_numpy_does(engine: Engine, pack: Pack) -> None:
    images = probe_batch(pack.input)
    np.testing.assert_array_equal(engine.infer(torch.from_numpy(images), "two"), engine.infer(images, "two"))


def test_images_on_the_gpu_are_not_copied(engine: Engine, pack: Pack, device: StandInDevice) -> None:
    """What runs after is at the engine's own memory again."""
    images = probe_batch(pack.input)[:3]
    expected = engine.infer(images, "two")
    device.log.clear()
    np.testing.assert_array_equal(engine.infer(OnGpu(images, device), "two", stream=42), expected)
    assert device.log == ["wait for 42", "run 3", "download", "synchronise"]
    np.testing.assert_array_equal(engine.infer(images, "two"), expected)


def test_logits_stay_on_the_gpu_and_the_callers_stream_waits(engine: Engine, pack: Pack, device: StandInDevice) -> None:
    images = probe_batch(pack.input)[:2]
    expected = engine.infer(images, "three")
    out = OnGpu(np.zeros((2, 4), np.float32), device)
    device.log.clear()
    assert engine.infer(OnGpu(images, device), "three", out=out, stream=42) is out
    assert device.log == ["wait for 42", "run 2", "hold up 42"]
    device.synchronise()
    np.testing.assert_array_equal(out.array[:, :3], expected)


def test_what_does_not_fit_the_engine(engine: Engine, pack: Pack, device: StandInDevice) -> None:
    images = np.zeros((5, *pack.input.shape), np.float32)
    with pytest.raises(UsageError, match="images: expected 1 to 4 on the GPU, as the plan takes at once, got 5"):
        engine.infer(OnGpu(images, device), "two")
    with pytest.raises(UsageError, match=r"images: expected float32 \[n, 3, 5, 6\], got float32 \[5, 3, 5\]"):
        engine.infer(OnGpu(images[:, :, :, 0], device), "two")
    with pytest.raises(UsageError, match=r"out: expected float32 \[2, 4\] on the GPU, .* got \[2, 2\] on the GPU"):
        engine.infer(OnGpu(images[:2], device), "two", out=OnGpu(np.zeros((2, 2), np.float32), device))
    with pytest.raises(UsageError, match=r"out: expected .* got \[2, 4\] on the host"):
        engine.infer(images[:2], "two", out=np.zeros((2, 4), np.float32))
