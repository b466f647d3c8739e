"""The CUDA kernels compiled for the host, behind the functions of ``Device`` that launch them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from packnet_deploy.trt.device import Owners
from packnet_deploy.trt.kernel import kernel_source


def build(folder: Path, source: Path, library: Path) -> None:
    """Compile ``source``, which includes the kernels' own, in ``folder``; skips the test where there is no compiler."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler to compile the kernels for the host with")
    (folder / "switch.cu").write_bytes(kernel_source())
    # No contraction: a GPU rounds each float32 product by itself. The sanitizer stops at a misaligned access.
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-ffp-contract=off"]
    flags += ["-U_FORTIFY_SOURCE"]  # which takes a jump to another stack for a mistake
    flags += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    flags += ['-DSWITCH_CU="switch.cu"', f"-I{folder}"]
    subprocess.run([compiler, *flags, "-o", library, source], check=True)


class HostKernels:
    """Built in ``folder``."""

    def __init__(self, folder: Path) -> None:
        library = folder / "kernels.so"
        build(folder, Path(__file__).parent / "kernels_on_host.cpp", library)
        self._library = ctypes.CDLL(str(library))

    def write(self, out: int, values: int, owners: Owners) -> None:
        self._launch(f"write_{8 * owners.itemsize}", (out, values), owners)

    def clear(self, out: int, owners: Owners) -> None:
        self._launch(f"clear_{8 * owners.itemsize}", (out,), owners)

    def _launch(self, name: str, addresses: tuple[int, ...], owners: Owners) -> None:
        getattr(self._library, name)(
            ctypes.c_uint(owners.blocks),
            ctypes.c_uint(owners.count),
            *map(ctypes.c_void_p, (*addresses, owners.masks, owners.before)),
            ctypes.c_uint(owners.tiles),
            ctypes.c_uint64(owners.first),
            ctypes.c_uint64(owners.last),
        )
