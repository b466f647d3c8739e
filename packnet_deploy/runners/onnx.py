"""Running exported tasks in ONNX Runtime: one session per task, all held together until the runner is closed.

No PyTorch and no pack is needed, only the ONNX files. Opening a session is ``export.session``'s business.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.session import open_session
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.runners.contract import Float32Array, check_images, check_task

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

INPUT, OUTPUT = "images", "logits"


class OnnxRunner:
    """One ONNX Runtime session per task, opened by ``with``.

    ``notes`` says, one sentence each, what is not as asked for (a fall-back to the CPU, say); each note is also
    logged as a warning, so that it is heard by those who do not look.

    Args:
        models: the exported file of each task, float32 ``images [n, c, h, w]`` to float32 ``logits [n, classes]``.
        device: ``cpu``, ``cuda``, or ``auto`` (CUDA where it starts, else the CPU).
        threads: threads of each session; ONNX Runtime's own choice when None.

    Raises (on entering):
        UsageError: no models, or a file that is not there.
        ArtefactError: a file ONNX Runtime refuses, or one with other inputs and outputs.
        EnvironmentFault: ``cuda`` was asked for and is not to be had.
    """

    def __init__(self, models: Mapping[str, Path], device: str = "cpu", threads: int | None = None) -> None:
        if not models:
            raise UsageError("models: expected at least one task's ONNX file, got none")
        self.tasks = tuple(models)
        self.notes: list[str] = []
        self._models = {task: Path(path) for task, path in models.items()}
        self._device = device
        self._threads = threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._shapes: dict[str, tuple[int | None, ...]] = {}

    def __enter__(self) -> OnnxRunner:
        self.notes.clear()
        try:
            for task, path in self._models.items():
                _check_there(path)
                session = open_session(path, self._device, self._threads)
                self._shapes[task] = _input_shape(session, path)
                self._sessions[task] = session
        except BaseException:
            self.close()
            raise
        self._note_fallback()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._sessions.clear()

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """See ``Runner.infer``."""
        session = self._session(task)
        check_images(images, self._shapes[task])
        logits: Float32Array = session.run([OUTPUT], {INPUT: images})[0]
        return logits

    def input_shape(self, task: str) -> tuple[int | None, ...]:
        """The model's ``(n, c, h, w)``; None for a size it leaves open, as an export does for ``n``."""
        self._session(task)
        return self._shapes[task]

    def metadata(self, task: str) -> dict[str, str]:
        """The model's own key-value metadata (class names, preprocessing), as the exporter wrote it."""
        return dict(self._session(task).get_modelmeta().custom_metadata_map)

    def classes(self, task: str) -> tuple[str, ...] | None:
        """Class names in the order of the logits; None where the model carries none.

        Raises:
            ArtefactError: the metadata's ``classes`` is not a JSON list of strings.
        """
        names = self._parsed(task, "classes")
        if names is None:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._malformed(task, "classes", "a JSON list of strings")
        return tuple(names)

    def preprocessing(self, task: str) -> InputSpec | None:
        """How images are made into the model's input; None where the model does not say.

        Raises:
            ArtefactError: the metadata's ``preprocessing`` is not an input description.
        """
        spec = self._parsed(task, "preprocessing")
        where = f"{self._models[task]}: metadata 'preprocessing'"
        return None if spec is None else InputSpec.from_json(spec, where)

    @property
    def providers(self) -> dict[str, str]:
        """The execution provider that really runs each task, which need not be the one asked for."""
        return {task: session.get_providers()[0] for task, session in self._sessions.items()}

    def _session(self, task: str) -> onnxruntime.InferenceSession:
        check_task(task, self.tasks)
        if task not in self._sessions:
            raise RuntimeError("OnnxRunner holds no session outside its with block")
        return self._sessions[task]

    def _parsed(self, task: str, key: str) -> Any:
        text = self.metadata(task).get(key)
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise self._malformed(task, key, "JSON") from error

    def _malformed(self, task: str, key: str, expected: str) -> ArtefactError:
        text = self.metadata(task)[key]
        return ArtefactError(
            f"{self._models[task]}: metadata '{key}': expected {expected}, got {text[:60]!r}; export the task again"
        )

    def _note_fallback(self) -> None:
        on_cpu = [task for task, name in self.providers.items() if name == "CPUExecutionProvider"]
        if self._device == "cpu" or not on_cpu:
            return
        what = "all tasks" if len(on_cpu) == len(self.tasks) else ", ".join(on_cpu)
        note = f"device {self._device}: CUDA is not to be had here; on the CPU: {what}"
        self.notes.append(note)
        log.warning(note)


def start_runtime(device: str = "cpu") -> None:
    """Start ONNX Runtime, and CUDA if it is to be used, on a graph of one node.

    The first session of a process pays for this (4 to 20 ms and 9 MB on a CPU, far more with CUDA); measurements
    call it first, so that they see the model alone.
    """
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "start", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_session(model.SerializeToString(), device)
    session.run(None, {"x": np.zeros(1, np.float32)})


def model_files(path: Path) -> tuple[Path, ...]:
    """The ONNX file and every external data file it names, each once.

    Raises:
        UsageError: the ONNX file is not there.
        ArtefactError: it is not ONNX, or an external file is missing.
        EnvironmentFault: it cannot be read.
    """
    import onnx

    _check_there(path)
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:  # protobuf's DecodeError, whose package is onnx's dependency rather than ours
        reason = " ".join(str(error).split())
        raise ArtefactError(f"{path}: expected an ONNX file, got another or a damaged one ({reason})") from error
    files = {path: None}  # a dict keeps the order
    sparse = [part for tensor in model.graph.sparse_initializer for part in (tensor.values, tensor.indices)]
    for tensor in (*model.graph.initializer, *sparse):
        for entry in tensor.external_data:
            if entry.key == "location":
                files[path.parent / entry.value] = None
    for file in files:
        if not file.is_file():
            raise ArtefactError(f"{path}: expected its external data beside it, got no file {file.name!r}")
    return tuple(files)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path}: expected an ONNX file, got no file; write it with packnet export")


def _input_shape(session: onnxruntime.InferenceSession, path: Path) -> tuple[int | None, ...]:
    """The shape of ``images``, after checking that the graph has the interface every export has."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    if list(inputs) != [INPUT] or OUTPUT not in outputs:
        raise ArtefactError(
            f"{path}: expected one input '{INPUT}' and an output '{OUTPUT}', got input {', '.join(inputs)} "
            f"and output {', '.join(outputs)}; export the task with packnet export"
        )
    for node, rank in ((inputs[INPUT], 4), (outputs[OUTPUT], 2)):
        if node.type != "tensor(float)" or len(node.shape) != rank:
            raise ArtefactError(
                f"{path}: '{node.name}': expected tensor(float) of rank {rank}, got {node.type} {node.shape}"
            )
    return tuple(size if isinstance(size, int) else None for size in inputs[INPUT].shape)
