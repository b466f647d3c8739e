"""The masking kernels without a GPU: they compile for every GPU that plans are for, and their arithmetic, compiled for
the host from the very same source, is that of ``EngineBank.materialise``. Speed, and the GPU itself, are tests/gpu's.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from guarded import GUARD, TYPES, aligned, behind
from host_kernels import HostKernels

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt import kernel
from packnet_deploy.trt.kernel import (
    CLEAR,
    KERNELS,
    MASK,
    SCALE,
    WRITE,
    architecture,
    compile_for,
    compile_kernels,
    kernel_source,
)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 8, 9, 255, 256, 1000, 4099])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_masking_moves_bits(host: HostKernels, itemsize: int, count: int) -> None:
    """Any count, any bits (also those of NaN and infinity), and not a byte behind the end."""
    rng = np.random.default_rng(count)
    bank, out, ranks = (aligned(count, np.dtype(kind)) for kind in (f"u{itemsize}", f"u{itemsize}", "u1"))
    bank[:] = rng.integers(0, 1 << 8 * itemsize, count, dtype=bank.dtype)
    ranks[:] = rng.choice([0, 1, 2, 127, 128, 254, 255], count)
    for task in (1, 2, 3, 128, 129, 255):
        host.mask(out.ctypes.data, bank.ctypes.data, ranks.ctypes.data, count, task, itemsize)
        np.testing.assert_array_equal(out, np.where(ranks < task, bank, 0))
        assert (behind(out) == GUARD).all()


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize(("shape", "axis"), [((7, 5, 3, 3), 0), ((6, 11), 1), ((1, 13), 0), ((9,), 0)])
def test_scaling_is_numpys(host: HostKernels, precision: str, shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(5)
    channels = shape[axis]
    ratios = np.exp(rng.normal(0, 4, channels)).astype(np.float32) * rng.choice([-1, 1, 0], channels).astype(np.float32)
    weights = aligned(int(np.prod(shape)), TYPES[precision])
    weights[:] = rng.normal(size=weights.size).astype(TYPES[precision])
    expected = scaled(weights.reshape(shape), ratios.reshape([-1 if i == axis else 1 for i in range(len(shape))]))
    inner = int(np.prod(shape[axis + 1 :]))
    host.scale(weights.ctypes.data, ratios.ctypes.data, weights.size, inner, channels, precision)
    np.testing.assert_array_equal(weights.view(np.uint8), expected.reshape(-1).view(np.uint8))
    assert (behind(weights) == GUARD).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("ratio", [1.0, -1.0, 0.3, 1.5, 1.0009765625, 2.0**-9, 2.0**-24, 2.0**9, 3e38, 0.0])
def test_every_16_bit_pattern_is_rounded_as_numpy_does(host: HostKernels, precision: str, ratio: float) -> None:
    """Subnormal numbers, ties, overflow to infinity; what is not a number stays none, whatever its bits."""
    weights = aligned(1 << 16, np.dtype(np.uint16))
    weights[:] = np.arange(1 << 16)
    expected = scaled(weights.view(TYPES[precision]).copy(), np.float32(ratio))
    ratios = np.array([ratio], np.float32)
    host.scale(weights.ctypes.data, ratios.ctypes.data, weights.size, weights.size, 1, precision)
    numbers = ~np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(weights[numbers], expected.view(np.uint16)[numbers])
    assert np.isnan(weights.view(TYPES[precision])[~numbers].astype(np.float32)).all()


def scaled(weights: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """As ``EngineBank.masked`` multiplies."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (weights.astype(np.float32) * ratios).astype(weights.dtype)


# ---- compiling for GPUs --------------------------------------------------------------------------------------------


@pytest.fixture
def nvrtc() -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="no cuda-python to compile the kernels with")
    try:
        compile_kernels("8.6")
    except EnvironmentFault as reason:
        if "not installed" in str(reason):
            pytest.skip(str(reason))
        raise


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", ["75", "80", "86", "89", "90"])
def test_ptx_of_every_kernel(capability: str) -> None:
    """One 16-byte load and store a thread in the masks, and nothing that would flush or fuse float32 arithmetic."""
    ptx = compile_for(f"compute_{capability}").decode()
    assert f".target sm_{capability}" in ptx
    parts = {part.split("(")[0]: part for part in ptx.split(".entry ")[1:]}
    assert set(parts) == set(KERNELS) == {*MASK.values(), *SCALE.values()}
    for name in MASK.values():
        assert "ld.global.v4" in parts[name]
        assert "st.global.v4" in parts[name]
    for name in SCALE.values():
        assert "mul.f32" in parts[name] or "mul.rn.f32" in parts[name]
        assert ".ftz" not in parts[name]
        assert "fma" not in parts[name]


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", ["75", "80", "90"])
def test_ptx_of_a_switch(capability: str) -> None:
    """Values come in by 16 bytes a thread, and no more shared memory is taken than every GPU gives without asking."""
    ptx = compile_for(f"compute_{capability}", "switch.cu").decode()
    parts = {part.split("(")[0]: part for part in ptx.split(".entry ")[1:]}
    assert set(parts) == {*WRITE.values(), *CLEAR.values()}
    for name in WRITE.values():
        assert "ld.global.v4" in parts[name]
        assert "bar.sync" in parts[name]
    shared = re.findall(r"\.shared .*?\.b8 \w+\[(\d+)\]", ptx)
    assert sum(map(int, shared)) <= 2 * 48 << 10  # of four kernels


@pytest.mark.usefixtures("nvrtc")
def test_machine_code_for_the_gpu_at_hand() -> None:
    assert compile_kernels("8.6").startswith(b"\x7fELF")
    assert compile_kernels("99.0").lstrip().startswith(b"//")  # PTX, which the driver of a GPU to come finishes
    with pytest.raises(EnvironmentFault, match=r"this GPU has 3\.5"):
        compile_kernels("3.5")
    with pytest.raises(EnvironmentFault, match="for sm_11: NVRTC_ERROR_INVALID_OPTION"):
        compile_for("sm_11")


def test_what_to_compile_for() -> None:
    assert architecture("8.6", (75, 86, 90)) == "sm_86"
    assert architecture("8.9", (75, 86, 90)) == "compute_86"
    assert architecture("12.1", (75, 120)) == "compute_120"


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'cuda-python\[all\]'"):
        compile_kernels("8.6")


def test_an_installed_package_carries_its_own_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_tree, in_wheel = kernel._FOLDERS
    assert kernel_source("switch.cu") == (in_tree / "switch.cu").read_bytes()
    assert in_wheel.name == "trt"
    (tmp_path / "switch.cu").write_bytes(b"// of a wheel")
    monkeypatch.setattr(kernel, "_FOLDERS", (tmp_path / "gone", tmp_path))
    assert kernel_source("switch.cu") == b"// of a wheel"
