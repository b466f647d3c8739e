"""The CUDA kernels that switch weights, compiled by NVRTC for the GPU at hand. No GPU is needed to compile them.

Their source is the C++ runtime's own file, engines/src/switch.cu; a wheel carries it as packnet_deploy/trt/switch.cu.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from packnet_deploy.errors import EnvironmentFault

_PLACES = (Path(__file__).parents[2] / "engines" / "src" / "switch.cu", Path(__file__).parent / "switch.cu")

WRITE = {2: "packnet_write_16", 4: "packnet_write_32"}  # by bytes of a weight
CLEAR = {2: "packnet_clear_16", 4: "packnet_clear_32"}
KERNELS = (*WRITE.values(), *CLEAR.values())


def kernel_source() -> bytes:
    return next(place for place in _PLACES if place.is_file()).read_bytes()


def architecture(compute_capability: str, known: tuple[int, ...]) -> str:
    """What to compile for: the GPU itself, so that an older driver need not understand a newer NVRTC's PTX.

    A GPU that NVRTC does not know yet gets the PTX of the newest one below it, which its driver finishes.

    Args:
        compute_capability: "8.6".
        known: the compute capabilities that NVRTC knows, 86 for "8.6".

    Raises:
        EnvironmentFault: the GPU is older than all of them.
    """
    wanted = int(compute_capability.replace(".", ""))
    if wanted in known:
        return f"sm_{wanted}"
    older = [number for number in known if number < wanted]
    if not older:
        raise EnvironmentFault(
            f"compute capability: NVRTC compiles for {min(known) / 10} and newer, this GPU has {compute_capability}; "
            "install an older cuda-python"
        )
    return f"compute_{max(older)}"


@cache
def compile_kernels(compute_capability: str, driver: str) -> bytes:
    """The kernels as the CUDA driver loads them.

    Args:
        driver: the newest CUDA that it supports, "13.0".

    Raises:
        EnvironmentFault: there is no NVRTC, none that compiles for this GPU, or one of a newer CUDA than the driver's.
    """
    try:
        from cuda.bindings import nvrtc

        version = tuple(map(int, _answer(nvrtc, nvrtc.nvrtcVersion(), whole=True)))
        known = tuple(_answer(nvrtc, nvrtc.nvrtcGetSupportedArchs()))
    except (ImportError, RuntimeError) as error:  # RuntimeError: the package finds no NVRTC library
        raise EnvironmentFault(
            f"switching weights on the GPU needs NVRTC, which is not installed here ({error}); "
            "run: pip install 'cuda-python[all]'"
        ) from error
    expect_driver(version, driver)
    return compile_for(architecture(compute_capability, known))


def expect_driver(nvrtc: tuple[int, ...], driver: str) -> None:
    """A driver loads code of its own major version's compilers, and of older ones.

    Raises:
        EnvironmentFault: NVRTC is of a newer one; names the package to pin.
    """
    supported = int(driver.split(".", maxsplit=1)[0])
    if nvrtc[0] > supported:
        raise EnvironmentFault(
            f"NVRTC: expected one of CUDA {supported} or older, which this driver loads, got "
            f"{'.'.join(map(str, nvrtc))}; run: pip install 'cuda-python[all]=={supported}.*', or update the driver"
        )


def compile_for(target: str) -> bytes:
    """Compile for an architecture by its name: ``sm_86`` gives machine code, ``compute_86`` PTX.

    Raises:
        EnvironmentFault: NVRTC does not compile for it; carries what it says.
    """
    from cuda.bindings import nvrtc

    program = _answer(nvrtc, nvrtc.nvrtcCreateProgram(kernel_source(), b"switch.cu", 0, [], []))
    try:
        (code,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={target}".encode()])
        if int(code) != 0:
            log = bytearray(_answer(nvrtc, nvrtc.nvrtcGetProgramLogSize(program)))
            _answer(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
            said = " ".join(log.rstrip(b"\0").decode(errors="replace").split())
            raise EnvironmentFault(f"NVRTC does not compile the switching kernels for {target}: {code.name} {said}")
        read_size, read = (
            (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            if target.startswith("sm_")
            else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        )
        image = bytearray(_answer(nvrtc, read_size(program)))
        _answer(nvrtc, read(program, image))
        return bytes(image)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _answer(nvrtc: Any, result: tuple[Any, ...], whole: bool = False) -> Any:
    """What a call of NVRTC gives beside its error code; with ``whole``, all of it.

    Raises:
        EnvironmentFault: the code is not success.
    """
    code, *values = result
    if int(code) != 0:
        raise EnvironmentFault(f"NVRTC says {nvrtc.nvrtcGetErrorString(code)[1].decode()}; install cuda-python again")
    return values if whole else values[0] if values else None
