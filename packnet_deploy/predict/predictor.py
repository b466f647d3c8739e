"""Names and probabilities for images. What runs the tasks is a runner; which one is opening.py's business."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.batches import in_threads
from packnet_deploy.data.preprocess import Pixels
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.predict.images import inputs_of, name_of
from packnet_deploy.runners.contract import Float32Array, Runner, check_task

if TYPE_CHECKING:
    from packnet_deploy.predict.images import ImageLike

TOP = 5
BATCH = 32


class Guess(NamedTuple):
    """A class, and how probable the task thinks it: the softmax of its logits."""

    name: str
    probability: float


class Prediction(NamedTuple):
    """What a task takes an image for, the most probable class first."""

    task: str
    guesses: tuple[Guess, ...]

    @property
    def name(self) -> str:
        return self.guesses[0].name

    @property
    def probability(self) -> float:
        return self.guesses[0].probability


class Answer(NamedTuple):
    """What the tasks say of one image; or, where it cannot be read, why not."""

    image: str
    predictions: tuple[Prediction, ...]
    fault: EnvironmentFault | None = None


class TaskFacts(NamedTuple):
    """What there is to know of a task beside its weights."""

    classes: tuple[str, ...]
    spec: InputSpec
    exactly: int | None = None  # images that every request has to have; None: any number


class Predictor:
    """Tasks that answer images with names. Close it, or use it in a ``with`` block.

    Args:
        runner: entered already.
        facts: of a task of the runner's; asked once for each.
        held: the runner, and all that it needs; closed with this.
    """

    def __init__(self, runner: Runner, facts: Callable[[str], TaskFacts], held: ExitStack) -> None:
        self._runner, self._look_up, self._held = runner, facts, held
        self._facts: dict[str, TaskFacts] = {}

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what runs the tasks. Closing twice is harmless."""
        self._held.close()

    @property
    def tasks(self) -> tuple[str, ...]:
        return self._runner.tasks

    def classes(self, task: str) -> tuple[str, ...]:
        """The task's class names, in the order of its logits."""
        return self._of(task).classes

    def spec(self, task: str) -> InputSpec:
        """How an image becomes the task's input."""
        return self._of(task).spec

    def predict(self, image: ImageLike, task: str | None = None, top: int = TOP) -> Prediction:
        """What a task takes an image for.

        Args:
            image: a path, a file opened for reading bytes, an image of Pillow's, or uint8 ``[height, width, 3]``.
            task: may be left out where there is only one.
            top: so many classes, the most probable first; fewer where the task has no more.

        Raises:
            UsageError: an unknown task, or none where there are several.
            EnvironmentFault: the image cannot be read.
        """
        if task is None and len(self.tasks) > 1:
            raise UsageError(f"task: expected one of {', '.join(self.tasks)}, got none")
        return self._one(image, self.tasks[:1] if task is None else (task,), top)[0]

    def predict_all(self, image: ImageLike, top: int = TOP) -> tuple[Prediction, ...]:
        """What every task takes an image for; it is decoded once."""
        return self._one(image, self.tasks, top)

    def stream(
        self, images: Iterable[ImageLike], tasks: Sequence[str] | None = None, top: int = TOP, batch_size: int = BATCH
    ) -> Iterator[Answer]:
        """An answer for every image, in order; they are decoded in threads, once each, and asked for in batches.

        Args:
            tasks: all where None.

        Raises:
            UsageError: an unknown task.
        """
        wanted = tuple(self.tasks if tasks is None else tasks)
        specs = tuple(dict.fromkeys(self.spec(task) for task in wanted))
        ready = in_threads(partial(_prepared, specs=specs), images, 2 * batch_size)
        while batch := list(islice(ready, batch_size)):
            good = [inputs for _, inputs, _ in batch if inputs is not None]
            rows = iter(zip(*(self._guesses(good, task, top) for task in wanted), strict=True) if good else ())
            for name, inputs, fault in batch:
                yield Answer(name, () if inputs is None else next(rows), fault)

    def logits(self, images: Float32Array, task: str) -> Float32Array:
        """As ``Runner.infer``, for any number of images."""
        exactly = self._of(task).exactly
        if exactly is None:
            return self._runner.infer(images, task)
        parts = []
        for start in range(0, len(images), exactly):
            part = images[start : start + exactly]
            full = np.resize(part, (exactly, *part.shape[1:]))  # begins again where the part ends
            parts.append(self._runner.infer(full, task)[: len(part)])
        return np.concatenate(parts)

    def _of(self, task: str) -> TaskFacts:
        check_task(task, self.tasks)
        if task not in self._facts:
            self._facts[task] = self._look_up(task)
        return self._facts[task]

    def _one(self, image: ImageLike, tasks: Sequence[str], top: int) -> tuple[Prediction, ...]:
        inputs = inputs_of(image, dict.fromkeys(self.spec(task) for task in tasks))
        return tuple(self._guesses([inputs], task, top)[0] for task in tasks)

    def _guesses(self, inputs: Sequence[Mapping[InputSpec, Pixels]], task: str, top: int) -> list[Prediction]:
        classes, spec, _ = self._of(task)
        images = spec.normalise(np.stack([each[spec] for each in inputs]))
        shares = probabilities(self.logits(images, task))
        best = np.argsort(-shares, axis=1, kind="stable")[:, : max(top, 1)]
        return [
            Prediction(task, tuple(Guess(classes[label], float(row[label])) for label in labels))
            for row, labels in zip(shares, best, strict=True)
        ]


def probabilities(logits: Float32Array) -> npt.NDArray[np.float64]:
    """The softmax over each row of logits ``[n, classes]``; rows sum to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


def _prepared(
    image: ImageLike, specs: Sequence[InputSpec]
) -> tuple[str, dict[InputSpec, Pixels] | None, EnvironmentFault | None]:
    name = name_of(image)
    try:
        return name, inputs_of(image, specs), None
    except EnvironmentFault as fault:
        return name, None, fault
