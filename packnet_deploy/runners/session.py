"""Opening and running graphs in ONNX Runtime the same way everywhere: quiet, on a stated device, with clear errors."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError, reason
from packnet_deploy.runners.contract import IMAGES, Float32Array
from packnet_deploy.runners.devices import device_of
from packnet_deploy.runners.exported import expect_allowed, external_tensors

if TYPE_CHECKING:
    import onnxruntime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_OPTIONS = {"use_tf32": "0"}  # ONNX Runtime's default rounds the factors of fp32 products to ten bits


def open_session(
    model: Path | bytes,
    device: str = "cpu",
    threads: int | None = None,
    lent: Mapping[str, onnxruntime.OrtValue] | None = None,
    *,
    checked: bool = False,
) -> onnxruntime.InferenceSession:
    """Load a graph into ONNX Runtime, if it holds what a graph may hold (``allowed``). One from elsewhere is rehearsed
    first (``rehearsal``): what takes it in sees to that.

    Args:
        model: an ONNX file, or a serialised model without external data.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` (CUDA when ONNX Runtime has it, else the CPU).
        threads: intra-op threads; ONNX Runtime's own choice when None.
        lent: initialisers that the session reads where they lie, instead of its own from the file, and that must
            outlive it. Then nothing is computed from initialisers at load, which would copy them, and sessions opened
            like this share one arena for what they compute at a run.
        checked: it was held against the list already, when it was rehearsed.

    Raises:
        ArtefactError: the graph holds something else, or ONNX Runtime refuses it.
        EnvironmentFault: ``cuda`` was asked for and is not to be had.
    """
    import onnxruntime

    kind, gpu = device_of(device)
    name = str(model) if isinstance(model, Path) else "the graph in memory"
    if not checked:
        expect_allowed(model, name)
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
    providers: list[Any] = [CPU]
    lacking = ""
    if kind != "cpu" and CUDA in onnxruntime.get_available_providers():
        lacking = _load_cuda_libraries()
        providers.insert(0, (CUDA, {**CUDA_OPTIONS, "device_id": str(gpu)}))
    try:
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=providers, **more
        )
    except Exception as error:  # onnxruntime raises a family of pybind exceptions without a common base
        raise ArtefactError(f"{name}: ONNX Runtime {onnxruntime.__version__} refuses it: {reason(error)}") from error
    if kind == "cuda" and CUDA not in session.get_providers():
        raise EnvironmentFault(f"device {device}: {why_no_cuda(lacking)}; or use --device cpu")
    return session


def why_no_cuda(lacking: str = "") -> str:
    """Why ONNX Runtime has no CUDA here, as far as can be told, and what to do.

    Args:
        lacking: what ``_load_cuda_libraries`` could not load.
    """
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return (
            f"ONNX Runtime {onnxruntime.__version__} is a build without CUDA; run: pip uninstall onnxruntime && "
            "pip install onnxruntime-gpu"
        )
    if lacking:
        return (
            f"ONNX Runtime could not load CUDA's libraries ({lacking}); run: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return "ONNX Runtime could not start its CUDA provider (no GPU, or a driver too old); check it with nvidia-smi"


@cache
def _load_cuda_libraries() -> str:
    """Have ONNX Runtime load CUDA and cuDNN from pip's packages, where it would not look by itself.

    Returns:
        What it could not load, in its own words on one line; "" where nothing was amiss.
    """
    import onnxruntime

    load = getattr(onnxruntime, "preload_dlls", None)  # 1.21 and newer
    if load is None:
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # where it says what it misses
        load()
    return next(iter(said.getvalue().strip().splitlines()), "")


def run_session(session: onnxruntime.InferenceSession, feeds: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
    """The logits of one request.

    Raises:
        ArtefactError: ONNX Runtime cannot run the graph.
    """
    try:
        (logits,) = session.run(None, dict(feeds))
    except Exception as error:  # as above
        raise ArtefactError(f"ONNX Runtime cannot run the graph: {reason(error)}") from error
    return np.asarray(logits)


def run_skeleton(graph: bytes, tensors: Mapping[str, Float32Array], images: Float32Array) -> Float32Array:
    """Logits ``[images, classes]`` of a weight-free graph whose inputs are ``images`` and every tensor by name."""
    return run_session(open_session(graph), {IMAGES: images, **tensors})


class MappedBank:
    """Bank and ranks of a ``shared`` folder, mapped into memory once and lent to every session that runs on them.

    The sessions then hold nothing of their own but heads and biases, and compute their masks at each run, as a selector
    does. The mapping is read-only and backed by the files, so several processes share the very same pages. Keep it as
    long as any session that was lent from it.
    """

    def __init__(self) -> None:
        self._files: dict[Path, npt.NDArray[np.uint8]] = {}
        self._values: dict[tuple[Path, int], onnxruntime.OrtValue] = {}

    def of(self, path: Path) -> dict[str, onnxruntime.OrtValue]:
        """The initialisers to lend to the graph at ``path``, by name.

        Raises:
            UsageError: the graph keeps everything to itself: it is not of layout ``shared``.
            ArtefactError: its data is missing or does not fit.
        """
        import onnxruntime

        lent = {}
        for tensor in external_tensors(path):
            key = (tensor.file.resolve(), tensor.offset)
            if key not in self._values:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
                content = self._map(key[0])[tensor.offset : tensor.offset + tensor.length]
                array: npt.NDArray[Any] = content.view(dtype).reshape(tensor.shape)
                self._values[key] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            lent[tensor.name] = self._values[key]
        if not lent:
            raise UsageError(f"{path}: it shares no bank with others; export with --layout shared")
        return lent

    def _map(self, file: Path) -> npt.NDArray[np.uint8]:
        if file not in self._files:
            self._files[file] = np.memmap(file, np.uint8, "r")
        return self._files[file]


@cache
def _share_arena() -> None:
    """Make the arena of this process that sessions may share; ONNX Runtime takes one only."""
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(where, None)
