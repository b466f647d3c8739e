"""The kernels, compiled by NVRTC for every GPU that plans are for; no GPU is needed. What they do, compiled for the
host, is test_difference.py's; speed, and the GPU itself, tests/gpu's.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.trt import kernel
from packnet_deploy.trt.kernel import (
    CLEAR,
    KERNELS,
    WRITE,
    architecture,
    compile_for,
    compile_kernels,
    expect_driver,
    kernel_source,
)


@pytest.fixture
def nvrtc() -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="no cuda-python to compile the kernels with")
    try:
        compile_kernels("8.6", "13.0")
    except EnvironmentFault as reason:
        if "not installed" in str(reason):
            pytest.skip(str(reason))
        raise


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", ["75", "80", "86", "89", "90"])
def test_ptx_of_every_kernel(capability: str) -> None:
    """Values come in by 16 bytes a thread, and no more shared memory is taken than every GPU gives without asking."""
    ptx = compile_for(f"compute_{capability}").decode()
    parts = {part.split("(")[0]: part for part in ptx.split(".entry ")[1:]}
    assert f".target sm_{capability}" in ptx
    assert set(parts) == set(KERNELS) == {*WRITE.values(), *CLEAR.values()}
    for name in WRITE.values():
        assert "ld.global.v4" in parts[name]
        assert "bar.sync" in parts[name]
    shared = re.findall(r"\.shared .*?\.b8 \w+\[(\d+)\]", ptx)
    assert sum(map(int, shared)) <= 2 * 48 << 10  # of four kernels


@pytest.mark.usefixtures("nvrtc")
def test_machine_code_for_the_gpu_at_hand() -> None:
    assert compile_kernels("8.6", "13.0").startswith(b"\x7fELF")
    assert compile_kernels("99.0", "13.0").lstrip().startswith(b"//")  # PTX, which the driver of a GPU to come finishes
    with pytest.raises(EnvironmentFault, match=r"this GPU has 3\.5"):
        compile_kernels("3.5", "13.0")
    with pytest.raises(EnvironmentFault, match="for sm_11: NVRTC_ERROR_INVALID_OPTION"):
        compile_for("sm_11")


def test_what_to_compile_for() -> None:
    assert architecture("8.6", (75, 86, 90)) == "sm_86"
    assert architecture("8.9", (75, 86, 90)) == "compute_86"
    assert architecture("12.1", (75, 120)) == "compute_120"


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_kernels.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'cuda-python\[all\]'"):
        compile_kernels("8.6", "13.0")


def test_an_nvrtc_newer_than_the_driver_is_told_apart() -> None:
    """Minor versions do not matter: a driver loads machine code of all compilers of its own major version."""
    for nvrtc, driver in (((12, 9), "13.0"), ((13, 2), "13.0"), ((12, 9), "12.2")):
        expect_driver(nvrtc, driver)
    with pytest.raises(EnvironmentFault, match=r"got 13\.2; run: pip install 'cuda-python\[all\]==12\.\*'"):
        expect_driver((13, 2), "12.8")


def test_an_installed_package_carries_its_own_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_tree, in_wheel = kernel._PLACES
    assert kernel_source() == in_tree.read_bytes()
    assert in_wheel.parent.name == "trt"
    (tmp_path / "switch.cu").write_bytes(b"// of a wheel")
    monkeypatch.setattr(kernel, "_PLACES", (tmp_path / "gone.cu", tmp_path / "switch.cu"))
    assert kernel_source() == b"// of a wheel"
