"""Opening an ONNX file in ONNX Runtime the same way everywhere: quiet, on a stated device, with clear errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError

if TYPE_CHECKING:
    import onnxruntime

DEVICES = ("auto", "cpu", "cuda")


def open_session(
    model: Path | bytes,
    device: str = "cpu",
    threads: int | None = None,
    lent: Mapping[str, onnxruntime.OrtValue] | None = None,
) -> onnxruntime.InferenceSession:
    """Load a graph into ONNX Runtime.

    Args:
        model: an ONNX file, or a serialised model without external data.
        device: ``cpu``, ``cuda``, or ``auto`` (CUDA when ONNX Runtime has it, else the CPU).
        threads: intra-op threads; ONNX Runtime's own choice when None.
        lent: initialisers that the session reads where they lie, instead of its own from the file, and that must
            outlive it. Then nothing is computed from initialisers at load, which would copy them, and sessions opened
            like this share one arena for what they compute at a run.

    Raises:
        ArtefactError: ONNX Runtime refuses the graph.
        EnvironmentFault: ``cuda`` was asked for and is not to be had.
    """
    import onnxruntime

    if device not in DEVICES:
        raise UsageError(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
    onnxruntime.set_default_logger_severity(4)  # what fails is raised, and reported as one line
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    more: dict[str, Any] = {}
    if lent is not None:
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_mem_pattern = False  # a pattern is one block per session, as large as all its activations
        for name, value in lent.items():
            options.add_initializer(name, value)
        more["disabled_optimizers"] = ["ConstantFolding"]
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    name = str(model) if isinstance(model, Path) else "the graph in memory"
    try:
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=providers, **more
        )
    except Exception as error:  # onnxruntime raises a family of pybind exceptions without a common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtefactError(f"{name}: ONNX Runtime {onnxruntime.__version__} refuses it: {reason}") from error
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise EnvironmentFault(
            "device cuda: ONNX Runtime could not start its CUDA provider here (no GPU, driver or CUDA libraries); "
            "use --device cpu, or check the machine with nvidia-smi"
        )
    return session


@cache
def _share_arena() -> None:
    """Make the arena of this process that sessions may share; ONNX Runtime takes one only."""
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(where, None)
