"""What every runner promises, whichever engine stands behind it, and the checks of arguments they share.

Opening an engine, reading a model file and switching tasks are each runner's own business.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import UsageError

Float32Array = npt.NDArray[np.float32]

# What a graph and an engine call their ends: a pack's graph (docs/format.md) has the first two, whatever holds several
# tasks and is told which the third.
IMAGES, LOGITS, TASK = "images", "logits", "task"


@runtime_checkable
class Runner(Protocol):
    """Images in, logits out, for any of several tasks; the engine is held between ``__enter__`` and ``close``."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks ``infer`` knows, in the order they were given."""

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """Normalised images, float32 ``[n, c, h, w]``, to this task's logits, float32 ``[n, classes]``.

        Raises:
            UsageError: an unknown task, or images of another shape or dtype than the model takes.
        """

    def close(self) -> None:
        """Let go of the engine and its memory. Closing twice is harmless."""

    def __enter__(self) -> Runner: ...

    def __exit__(self, *error: object) -> None: ...


def check_task(task: str, known: Collection[str]) -> None:
    """Raises UsageError, listing the known tasks, when ``task`` is not one of them."""
    if task not in known:
        raise UsageError(f"task: expected one of {', '.join(known)}, got {task!r}")


def check_images(images: Float32Array, shape: Sequence[int | None] = (None,) * 4) -> None:
    """Raises UsageError unless ``images`` is float32, of rank 4, not empty, and fits ``shape`` (None: any size)."""
    fits = len(images.shape) == len(shape) and all(
        got > 0 and want in (None, got) for got, want in zip(images.shape, shape, strict=True)
    )
    if images.dtype != np.float32 or not fits:
        sizes = (name if want is None else str(want) for name, want in zip("nchw", shape, strict=True))
        raise UsageError(
            f"images: expected float32 [{', '.join(sizes)}], got {images.dtype} {list(images.shape)}; "
            f"resize and normalise them as the model's input description says"
        )
