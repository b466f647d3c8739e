"""Opening an ONNX file in ONNX Runtime the same way everywhere: quiet, on a stated device, with clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError

if TYPE_CHECKING:
    import onnxruntime

DEVICES = ("auto", "cpu", "cuda")


def open_session(model: Path | bytes, device: str = "cpu", threads: int | None = None) -> onnxruntime.InferenceSession:
    """Load a graph into ONNX Runtime.

    Args:
        model: an ONNX file, or a serialised model without external data.
        device: ``cpu``, ``cuda``, or ``auto`` (CUDA when ONNX Runtime has it, else the CPU).
        threads: intra-op threads; ONNX Runtime's own choice when None.

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
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    name = str(model) if isinstance(model, Path) else "the graph in memory"
    try:
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=providers
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
