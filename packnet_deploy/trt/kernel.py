"""The CUDA kernels that switch weights, compiled by NVRTC for the GPU at hand. No GPU is needed to compile them.

Their sources are the C++ runtime's own files, engines/src/mask.cu and switch.cu; a wheel carries them beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from packnet_deploy.errors import EnvironmentFault

_FOLDERS = (Path(__file__).parents[2] / "engines" / "src", Path(__file__).parent)

MASK = {2: "packnet_mask_16", 4: "packnet_mask_32"}  # by bytes of a weight
WRITE = {2: "packnet_write_16", 4: "packnet_write_32"}
CLEAR = {2: "packnet_clear_16", 4: "packnet_clear_32"}
SCALE = {"fp32": "packnet_scale_fp32", "fp16": "packnet_scale_fp16", "bf16": "packnet_scale_bf16"}
KERNELS = (*MASK.values(), *SCALE.values())


def kernel_source(name: str = "mask.cu") -> bytes:
    return next(folder / name for folder in _FOLDERS if (folder / name).is_file()).read_bytes()


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


def compile_kernels(compute_capability: str) -> bytes:
    """The kernels as the CUDA driver loads them.

    Raises:
        EnvironmentFault: there is no NVRTC, or none that compiles for this GPU.
    """
    try:
        from cuda.bindings import nvrtc

        known = tuple(_answer(nvrtc, nvrtc.nvrtcGetSupportedArchs()))
    except (ImportError, RuntimeError) as error:  # RuntimeError: the package finds no NVRTC library
        raise EnvironmentFault(
            f"masking weights on the GPU needs NVRTC, which is not installed here ({error}); "
            "run: pip install 'cuda-python[all]'"
        ) from error
    return compile_for(architecture(compute_capability, known))


def compile_for(target: str, source: str = "mask.cu") -> bytes:
    """Compile for an architecture by its name: ``sm_86`` gives machine code, ``compute_86`` PTX.

    Raises:
        EnvironmentFault: NVRTC does not compile for it; carries what it says.
    """
    from cuda.bindings import nvrtc

    program = _answer(nvrtc, nvrtc.nvrtcCreateProgram(kernel_source(source), source.encode(), 0, [], []))
    try:
        (code,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={target}".encode()])
        if int(code) != 0:
            log = bytearray(_answer(nvrtc, nvrtc.nvrtcGetProgramLogSize(program)))
            _answer(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
            said = " ".join(log.rstrip(b"\0").decode(errors="replace").split())
            raise EnvironmentFault(f"NVRTC does not compile the masking kernels for {target}: {code.name} {said}")
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


def _answer(nvrtc: Any, result: tuple[Any, ...]) -> Any:
    """What a call of NVRTC gives beside its error code.

    Raises:
        EnvironmentFault: the code is not success.
    """
    code, *values = result
    if int(code) != 0:
        raise EnvironmentFault(f"NVRTC says {nvrtc.nvrtcGetErrorString(code)[1].decode()}; install cuda-python again")
    return values[0] if values else None
