"""``packnet eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from packnet_deploy.cli.answering import Answering, answering_line, answering_options, open_answering
from packnet_deploy.cli.coming import print_next
from packnet_deploy.cli.flags import complete_path
from packnet_deploy.cli.packs import complete_task
from packnet_deploy.cli.show import console, say_json
from packnet_deploy.cli.targets import expect_folder_of

if TYPE_CHECKING:
    from packnet_deploy.predict.evaluation import Evaluation

FEW_CLASSES = 20  # listed one by one; of more, those that are wrong most often
WORST = 10


@click.command("eval")
@click.option("--task", required=True, metavar="NAME", shell_complete=complete_task, help="The task.")
@click.option(
    "--data",
    required=True,
    shell_complete=complete_path,
    help="Images: a folder as for training, or of class folders; or builtin:NAME.",
)
@answering_options
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images per step.")
@click.option("--skip-bad-images", is_flag=True, help="Leave out images that cannot be read, and list them.")
@click.option(
    "--confusion",
    type=click.Path(path_type=Path),
    help="Write how often each class was taken for which: a table (.csv) or a picture (.svg, .png, .pdf).",
)
@click.option("--predictions", type=click.Path(path_type=Path), help="Write every image's answer to this CSV file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(
    task: str,
    data: str,
    pack: Path | None,
    onnx: Path | None,
    plan: Path | None,
    device: str,
    split: str,
    batch_size: int,
    skip_bad_images: bool,
    confusion: Path | None,
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Measure how often a task is right, in ONNX Runtime or TensorRT.

    Uses the pack alone, an export or a plan, no PyTorch; images are prepared exactly as in the task's training, as
    packnet inspect shows. A class's error is the share of its images that were taken for another.
    """
    from packnet_deploy.predict.evaluation import evaluate
    from packnet_deploy.predict.written import (
        evaluation_to_json,
        expect_confusion_suffix,
        write_confusion,
        write_predictions,
    )

    if confusion is not None:
        expect_confusion_suffix(confusion)
    for path in (confusion, predictions):
        expect_folder_of(path)
    given = Answering(pack, onnx, plan, device)
    with open_answering(given, [task]) as predictor:
        found = evaluate(predictor, task, data, split, batch_size=batch_size, skip_bad_images=skip_bad_images)
    if confusion is not None:
        write_confusion(found, confusion)
    if predictions is not None:
        write_predictions(found, predictions)
    if as_json:
        say_json(evaluation_to_json(found))
    else:
        _print(found, data)
        print_next(console(), answering_line(given, "predict", task, "IMAGE"))


def _print(found: Evaluation, data: str) -> None:
    from packnet_deploy.cli.show import percent, table

    screen = console()
    for path in found.skipped:
        screen.print(f"{found.task}: left out, cannot be read: {path}", soft_wrap=True)
    for note in found.notes:
        screen.print(f"{found.task}: {note}", soft_wrap=True)
    classes = found.per_class
    worst = classes if len(classes) <= FEW_CLASSES else sorted(classes, key=lambda each: -(each.error or 0))[:WORST]
    title = "" if worst is classes else f"the {WORST} of {len(classes)} classes with the largest error"
    shown = table(title, ("class", "mostly taken for"), ("images", "error"))
    for each in worst:
        shown.add_row(each.name, each.mostly or "", f"{each.images:,}", percent(each.error))
    screen.print(shown)
    top5 = "" if found.top5_error is None else f", top-5 error {percent(found.top5_error)}"
    images = f"{found.images:,} images of {data}, {len(classes)} classes"
    screen.print(
        f"{found.task}: accuracy {percent(1 - found.error)}, error {percent(found.error)}{top5}  ({images})",
        soft_wrap=True,
    )
