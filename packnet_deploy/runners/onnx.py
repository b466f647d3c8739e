"""Running exported tasks of any layout in ONNX Runtime, all held together until the runner is closed.

No PyTorch and no pack is needed, only the ONNX files. Opening a session is ``session``'s business.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, UsageError, printable
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.runners.contract import IMAGES, LOGITS, TASK, Float32Array, check_images, check_task
from packnet_deploy.runners.devices import device_of
from packnet_deploy.runners.exported import Selectable, selectable
from packnet_deploy.runners.rehearsal import rehearse
from packnet_deploy.runners.session import CPU, CUDA, MappedBank, open_session, why_no_cuda

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Served:
    """How one task is asked for: a session, and in a selector the task's index and its width."""

    path: Path
    session: onnxruntime.InferenceSession
    shape: tuple[int | None, ...]  # of `images`; None for a size the model leaves open
    index: Int32Array | None = None  # [1]
    selected: Selectable | None = None  # what the selector says of it


class OnnxRunner:
    """Exported tasks in ONNX Runtime, all held together from ``with`` on: switching loads nothing. Before that, all are
    tried out together in a process of their own (``rehearsal``).

    Tasks whose file is the same, a selector, share one session. ``notes`` says, one sentence each, what is not as
    asked for (a fall-back to the CPU, say); each note is also logged as a warning, so that it is heard by those who do
    not look.

    Args:
        models: the exported file of each task (``exported.tasks_in`` finds them), float32 ``images [n, c, h, w]`` to
            float32 ``logits [n, classes]``.
        device: ``cpu``, ``cuda``, or ``auto`` (CUDA where it starts, else the CPU).
        threads: threads of each session; ONNX Runtime's own choice when None.
        mapped: let all sessions of a ``shared`` folder read one mapping of its bank, and mask it at each run. Takes
            the memory of about one bank for any number of tasks, and more time for each request. CPU only.
        rehearsed: the models have been tried out already, or this process has written them.

    Raises (on entering):
        UsageError: no models, a file that is not there, a task that a selector does not have, or ``mapped`` for
            models that share nothing or a device that is not the CPU.
        ArtefactError: a file ONNX Runtime refuses, or one with other inputs and outputs.
        EnvironmentFault: ``cuda`` was asked for and is not to be had.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        device: str = "cpu",
        threads: int | None = None,
        *,
        mapped: bool = False,
        rehearsed: bool = False,
    ) -> None:
        if not models:
            raise UsageError("models: expected at least one task's ONNX file, got none")
        if mapped and device != "cpu":
            raise UsageError(f"mapped: a bank is mapped into the CPU's memory only, got device {device!r}; use cpu")
        self.tasks = tuple(models)
        self.notes: list[str] = []
        self._models = {task: Path(path) for task, path in models.items()}
        self._device = device
        self._threads = threads
        self._rehearsed = rehearsed
        self._bank = MappedBank() if mapped else None
        self._served: dict[str, _Served] = {}

    def __enter__(self) -> OnnxRunner:
        self.notes.clear()
        try:
            paths = list(dict.fromkeys(self._models.values()))
            if not self._rehearsed:
                rehearse({str(path): path for path in paths})
            sessions = {path: self._open(path) for path in paths}
            for task, path in self._models.items():
                self._served[task] = _served(task, path, sessions[path])
        except BaseException:
            self.close()
            raise
        self._note_fallback()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._served.clear()

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """See ``Runner.infer``."""
        served = self._task(task)
        check_images(images, served.shape)
        if served.index is None:
            logits: Float32Array = served.session.run([LOGITS], {IMAGES: images})[0]
            return logits
        logits = served.session.run([LOGITS], {IMAGES: images, TASK: served.index})[0]
        return logits[:, : len(served.selected.classes if served.selected else ())]

    def hold(self, images: Float32Array, task: str) -> Callable[[], object]:
        """Put a batch where the task's session runs; each call of what is returned runs it and leaves the logits there.

        For measurements of the session alone. On a CPU, where nothing is far, it is ``infer`` without its checks.
        """
        import onnxruntime

        served = self._task(task)
        check_images(images, served.shape)
        where, gpu = ("cuda", device_of(self._device)[1]) if self.providers[task] == CUDA else ("cpu", 0)
        given = {IMAGES: images} | ({} if served.index is None else {TASK: served.index})
        binding = served.session.io_binding()
        for name, array in given.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), where, gpu)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(LOGITS, where, gpu)

        def run() -> object:
            served.session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return binding

        return run

    def input_shape(self, task: str) -> tuple[int | None, ...]:
        """The model's ``(n, c, h, w)``; None for a size it leaves open, as an export does for ``n``."""
        return self._task(task).shape

    def metadata(self, task: str) -> dict[str, str]:
        """The model's own key-value metadata (class names, preprocessing), as the exporter wrote it."""
        return dict(self._task(task).session.get_modelmeta().custom_metadata_map)

    def classes(self, task: str) -> tuple[str, ...] | None:
        """Class names in the order of the logits; None where the model carries none.

        Raises:
            ArtefactError: the metadata's ``classes`` is not a JSON list of strings.
        """
        if (selected := self._task(task).selected) is not None:
            return selected.classes
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
        selected = self._task(task).selected
        spec = self._parsed(task, "preprocessing") if selected is None else selected.preprocessing
        where = f"{self._models[task]}: metadata 'preprocessing'"
        return None if spec is None else InputSpec.from_json(spec, where)

    @property
    def providers(self) -> dict[str, str]:
        """The execution provider that really runs each task, which need not be the one asked for."""
        return {task: served.session.get_providers()[0] for task, served in self._served.items()}

    def _open(self, path: Path) -> onnxruntime.InferenceSession:
        lent = None if self._bank is None else self._bank.of(path)
        return open_session(path, self._device, self._threads, lent, checked=not self._rehearsed)

    def _task(self, task: str) -> _Served:
        check_task(task, self.tasks)
        if task not in self._served:
            raise RuntimeError("OnnxRunner holds no session outside its with block")
        return self._served[task]

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
        on_cpu = [task for task, name in self.providers.items() if name == CPU]
        if self._device == "cpu" or not on_cpu:
            return
        what = "all tasks" if len(on_cpu) == len(self.tasks) else ", ".join(on_cpu)
        note = f"device {self._device}: on the CPU: {what}; {why_no_cuda()}"
        self.notes.append(note)
        log.warning("%s", printable(note))


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


def _served(task: str, path: Path, session: onnxruntime.InferenceSession) -> _Served:
    """Check that the graph has an interface that exports have, and find the task in it."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    if list(inputs) not in ([IMAGES], [IMAGES, TASK]) or LOGITS not in outputs:
        raise ArtefactError(
            f"{path}: expected one input '{IMAGES}' and an output '{LOGITS}', got input {', '.join(inputs)} "
            f"and output {', '.join(outputs)}; export the task with packnet export"
        )
    for node, rank in ((inputs[IMAGES], 4), (outputs[LOGITS], 2)):
        if node.type != "tensor(float)" or len(node.shape) != rank:
            raise ArtefactError(
                f"{path}: '{node.name}': expected tensor(float) of rank {rank}, got {node.type} {node.shape}"
            )
    shape = tuple(size if isinstance(size, int) else None for size in inputs[IMAGES].shape)
    if TASK not in inputs:
        return _Served(path, session, shape)
    tasks = selectable(session.get_modelmeta().custom_metadata_map.get("tasks", ""), path)
    for index, selected in enumerate(tasks, start=1):
        if selected.name == task:
            return _Served(path, session, shape, np.array([index], np.int32), selected)
    raise UsageError(f"{path}: no task '{task}' in it; its tasks: {', '.join(known.name for known in tasks)}")
