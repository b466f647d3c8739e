"""A task held against labelled images: how often it is right, where it errs, and every single answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from packnet_deploy.data.batches import batches
from packnet_deploy.data.source import open_split
from packnet_deploy.data.splits import ImageSplit, listing
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.predict.predictor import BATCH, TOP, Predictor, probabilities

Counts = npt.NDArray[np.int64]


class Scored(NamedTuple):
    """One image's answer beside its label."""

    image: str
    label: int
    predicted: int
    probability: float  # of what was predicted


class ClassFigures(NamedTuple):
    """How one class fared."""

    name: str
    images: int
    right: int
    mostly: str | None  # what its images were taken for most often when they were taken wrongly

    @property
    def error(self) -> float | None:
        """0..1; None where the class has no images."""
        return 1 - self.right / self.images if self.images else None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a task answered to every image of a split.

    Attributes:
        confusion: images ``[class, predicted class]``.
        within_top: images whose class is among the ``TOP`` most probable.
        answers: every image's, in order.
        skipped: images left out because they cannot be read.
        notes: what to know of the figures, a sentence each.
    """

    task: str
    classes: tuple[str, ...]
    confusion: Counts
    within_top: int
    answers: tuple[Scored, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def error(self) -> float:
        """Top-1 error, 0..1."""
        return 1 - int(self.confusion.trace()) / self.images

    @property
    def top5_error(self) -> float | None:
        """0..1; None where a task has five classes or fewer, and is always right among five."""
        return 1 - self.within_top / self.images if len(self.classes) > TOP else None

    @property
    def per_class(self) -> tuple[ClassFigures, ...]:
        """Every class in the order of the labels."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        return tuple(
            ClassFigures(
                name,
                int(self.confusion[label].sum()),
                int(self.confusion[label, label]),
                self.classes[int(wrong[label].argmax())] if wrong[label].any() else None,
            )
            for label, name in enumerate(self.classes)
        )


def evaluate(
    predictor: Predictor,
    task: str,
    data: str,
    split: str = "test",
    *,
    batch_size: int = BATCH,
    skip_bad_images: bool = False,
    on_batch: Callable[[int, int], object] = lambda done, of: None,
) -> Evaluation:
    """Ask a task for every image of a split.

    Args:
        data: as ``open_split`` has it.
        on_batch: called with the images done and those there are.

    Raises:
        UsageError: an unknown task, split or built-in set.
        EnvironmentFault: the images are not there, or not of this task's classes; one cannot be read.
    """
    classes, spec = predictor.classes(task), predictor.spec(task)
    _, images = open_split(data, split, classes=classes, skip_bad_images=skip_bad_images)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    within, answers = 0, list[Scored]()
    for batch, labels in batches(images, spec, batch_size):
        logits = predictor.logits(batch, task)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
        np.add.at(confusion, (labels, best[:, 0]), 1)
        within += int((best == labels[:, None]).sum())
        shares = probabilities(logits)
        for row, (label, ranked) in enumerate(zip(labels.tolist(), best.tolist(), strict=True)):
            answers.append(Scored(images.name(len(answers)), label, ranked[0], float(shares[row, ranked[0]])))
        on_batch(len(answers), len(images))
    notes = (*images.notes, *_notes(classes, spec, images))
    return Evaluation(task, classes, confusion, within, tuple(answers), images.skipped, notes)


def _notes(classes: tuple[str, ...], spec: InputSpec, images: ImageSplit) -> list[str]:
    notes = []
    absent = np.setdiff1d(np.arange(len(classes)), images.labels)
    if len(absent):
        names = listing([classes[label] for label in absent])
        notes.append(f"no images of {len(absent)} of its {len(classes)} classes: {names}; the figures are the others'")
    if spec.boxes and not images.boxed:
        notes.append("trained on images cut to bounding boxes, which these do not have: they are seen whole")
    return notes
