"""What ``rehearsal`` does with graphs in a process of its own: each is loaded and run once, on one image of zeros.

Kept apart from everything that takes long to import: whoever starts that process waits for it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import onnxruntime

from packnet_deploy.errors import reason

OPEN_SIDE = 224  # as ``sizes`` has it
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class Sent(TypedDict):
    """A model on its way there: a file's path, or a serialised model in base64; the other one is empty."""

    path: str
    model: str


class Refusal(TypedDict):
    """Which of the models it was, and what ONNX Runtime says."""

    number: int
    said: str


def first_refusal(models: Sequence[Sent]) -> Refusal | None:
    """The first model that ONNX Runtime does not load, or cannot run."""
    onnxruntime.set_default_logger_severity(4)
    for number, sent in enumerate(models):
        try:
            _try_out(sent["path"] or base64.b64decode(sent["model"]))
        except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
            continue  # by the CPU; where a model is for something else, it has an answer there
        except Exception as error:  # onnxruntime raises a family of pybind exceptions without a common base
            return {"number": number, "said": reason(error)}
    return None


def _try_out(model: str | bytes) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # takes more than is needed at once
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if all(each.type in _TYPES for each in inputs):
        session.run(None, {each.name: _nothing(each.shape, _TYPES[each.type]) for each in inputs})


def _nothing(shape: Sequence[int | str | None], dtype: str) -> npt.NDArray[np.generic]:
    """Zeros, or ones where they are counted: no task has the index 0."""
    open_sizes = (1, 1, OPEN_SIDE, OPEN_SIDE) if len(shape) == 4 else (1,) * len(shape)
    sizes = [size if isinstance(size, int) else other for size, other in zip(shape, open_sizes, strict=True)]
    kind = np.dtype(dtype)
    return np.ones(sizes, kind) if kind.kind in "iu" else np.zeros(sizes, kind)
