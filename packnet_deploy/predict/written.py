"""What was predicted and measured, as others read it: CSV, JSON values, and the confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from packnet_deploy.errors import UsageError, missing_package
from packnet_deploy.predict.evaluation import Evaluation
from packnet_deploy.predict.predictor import Answer
from packnet_deploy.reports.sheet import row_writer

PICTURES = (".svg", ".png", ".pdf")
MOST_NAMED = 40  # classes whose names stand beside the picture


def answers_to_csv(answers: Iterable[Answer], file: IO[str]) -> None:
    """A row for every class named: image, task, rank from 1, class, probability."""
    write = row_writer(file)
    write(("image", "task", "rank", "class", "probability"))
    for answer in answers:
        for prediction in answer.predictions:
            for rank, guess in enumerate(prediction.guesses, start=1):
                write((answer.image, prediction.task, rank, guess.name, f"{guess.probability:.6g}"))


def answer_to_json(answer: Answer) -> dict[str, Any]:
    if answer.fault is not None:
        return {"image": answer.image, "error": str(answer.fault)}
    tasks = {
        prediction.task: [{"class": guess.name, "probability": guess.probability} for guess in prediction.guesses]
        for prediction in answer.predictions
    }
    return {"image": answer.image, "tasks": tasks}


def evaluation_to_json(found: Evaluation) -> dict[str, Any]:
    return {
        "task": found.task,
        "images": found.images,
        "accuracy": 1 - found.error,
        "error": found.error,
        "top5_error": found.top5_error,
        "classes": [
            {"class": each.name, "images": each.images, "error": each.error, "mostly_taken_for": each.mostly}
            for each in found.per_class
        ],
        "confusion": found.confusion.tolist(),
        "skipped": list(found.skipped),
        "notes": list(found.notes),
    }


def write_predictions(found: Evaluation, path: Path) -> None:
    """Every image's answer as CSV: image, its class, the class predicted, its probability."""
    rows = (
        (a.image, found.classes[a.label], found.classes[a.predicted], f"{a.probability:.6g}") for a in found.answers
    )
    _write_csv(path, ("image", "class", "predicted", "probability"), rows)


def write_confusion(found: Evaluation, path: Path) -> None:
    """The confusion matrix, by the path's suffix as CSV or as a picture; rows are the true classes.

    Raises:
        UsageError: another suffix.
        EnvironmentFault: a picture is wanted, and matplotlib is not there.
    """
    expect_confusion_suffix(path)
    if path.suffix == ".csv":
        rows = ([name, *counts] for name, counts in zip(found.classes, found.confusion.tolist(), strict=True))
        _write_csv(path, ("class", *found.classes), rows)
    else:
        _draw_confusion(found, path)


def expect_confusion_suffix(path: Path) -> None:
    if path.suffix not in (".csv", *PICTURES):
        raise UsageError(f"{path}: expected a file that ends in .csv or {', '.join(PICTURES)}, got {path.suffix!r}")


def _draw_confusion(found: Evaluation, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("matplotlib", "report", "drawing a confusion matrix") from error
    from packnet_deploy.reports.drawing import save_figure

    counts = found.confusion
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = 3 + 0.28 * min(len(found.classes), MOST_NAMED)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=f"{found.task}: {found.images:,} images", xlabel="predicted", ylabel="class")
    if len(found.classes) <= MOST_NAMED:
        names = [name if len(name) <= 24 else f"{name[:23]}…" for name in found.classes]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(shown, label="share of the class's images")
    save_figure(figure, path, f"confusion-{found.task}", path.suffix[1:])


def _write_csv(path: Path, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write = row_writer(file)
        write(head)
        for row in rows:
            write(row)
