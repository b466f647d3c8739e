"""The CUDA kernels compiled for the host, behind the functions of ``Device`` that launch them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from packnet_deploy.trt.difference import TILE
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

    def write(
        self,
        out: int,
        values: int,
        masks: int,
        before: int,
        tiles: int,
        owners: int,
        first: int,
        last: int,
        itemsize: int,
    ) -> None:
        self._owners(f"write_{8 * itemsize}", (out, values, masks, before), tiles, owners, first, last)

    def clear(
        self, out: int, masks: int, before: int, tiles: int, owners: int, first: int, last: int, itemsize: int
    ) -> None:
        self._owners(f"clear_{8 * itemsize}", (out, masks, before), tiles, owners, first, last)

    def _owners(self, name: str, addresses: tuple[int, ...], tiles: int, owners: int, first: int, last: int) -> None:
        getattr(self._library, name)(
            ctypes.c_uint(-(-last // TILE) - first // TILE),
            ctypes.c_uint(owners),
            *map(ctypes.c_void_p, addresses),
            ctypes.c_uint(tiles),
            ctypes.c_uint64(first),
            ctypes.c_uint64(last),
        )
