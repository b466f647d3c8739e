"""Running a pack as it is: its graph in ONNX Runtime, fed with one task's weights at a time.

Nothing is folded, rounded or exported: a pack is verified with this, and exports are compared with it where there is no
PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packnet_deploy.pack.manifest import GRAPH_FILE
from packnet_deploy.runners.contract import IMAGES, Float32Array, check_images, check_task
from packnet_deploy.runners.rehearsal import rehearse
from packnet_deploy.runners.session import open_session, run_session

if TYPE_CHECKING:
    import onnxruntime

    from packnet_deploy.pack import Pack


class PackRunner:
    """Every task of a pack; asking for another task than the last one reads its weights."""

    def __init__(self, pack: Pack) -> None:
        self.tasks = tuple(entry.name for entry in pack.tasks)
        self._pack = pack
        self._session: onnxruntime.InferenceSession | None = None
        self._task = ""
        self._weights: dict[str, Float32Array] = {}

    def __enter__(self) -> PackRunner:
        graph = self._pack.graph_bytes()
        rehearse({str(self._pack.path / GRAPH_FILE): graph})
        self._session = open_session(graph, checked=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._session, self._task, self._weights = None, "", {}

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """See ``Runner.infer``.

        Raises:
            ArtefactError: the pack is damaged, or ONNX Runtime cannot run its graph.
        """
        check_task(task, self.tasks)
        check_images(images, (None, *self._pack.input.shape))
        if self._session is None:
            raise RuntimeError("PackRunner runs only inside its with block")
        if task != self._task:
            self._task, self._weights = "", {}  # two tasks' weights at once would be twice the memory
            self._weights, self._task = self._pack.load_task(task).tensors, task
        return run_session(self._session, {IMAGES: images, **self._weights})
