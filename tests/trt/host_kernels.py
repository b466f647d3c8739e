"""The masking kernels compiled for the host (kernels_on_host.cpp), behind the two functions of ``Device``."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from packnet_deploy.trt.kernel import kernel_source

BLOCK = 32


def build(folder: Path, source: Path, library: Path) -> None:
    """Compile ``source``, which includes the kernels' own, in ``folder``; skips the test where there is no compiler."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler to compile the kernels for the host with")
    (folder / "mask.cu").write_bytes(kernel_source())
    # No contraction: a GPU rounds each float32 product by itself. The sanitizer stops at a misaligned access.
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-ffp-contract=off"]
    flags += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run([compiler, *flags, '-DMASK_CU="mask.cu"', f"-I{folder}", "-o", library, source], check=True)


class HostKernels:
    """Built in ``folder``."""

    def __init__(self, folder: Path) -> None:
        library = folder / "kernels.so"
        build(folder, Path(__file__).parent / "kernels_on_host.cpp", library)
        self._library = ctypes.CDLL(str(library))

    def mask(self, out: int, bank: int, ranks: int, count: int, task: int, itemsize: int) -> None:
        self._launch(f"mask_{8 * itemsize}", -(-count * itemsize // 16), (out, bank, ranks), count, last=task)

    def scale(self, weights: int, ratios: int, count: int, inner: int, channels: int, precision: str) -> None:
        self._launch(f"scale_{precision}", count, (weights, ratios), count, inner, last=channels)

    def _launch(self, name: str, threads: int, addresses: tuple[int, ...], *counts: int, last: int) -> None:
        blocks = -(-threads // BLOCK) or 1
        getattr(self._library, name)(
            ctypes.c_uint(blocks),
            ctypes.c_uint(BLOCK),
            *map(ctypes.c_void_p, addresses),
            *map(ctypes.c_uint64, counts),
            ctypes.c_uint(last),
        )
