"""``packnet eval``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from packnet_deploy.cli.packs import open_chosen, pack_option

if TYPE_CHECKING:
    from packnet_deploy.pack import Pack


@click.command("eval")
@click.option("--task", required=True, metavar="NAME", help="The task.")
@click.option("--data", required=True, help="Images: a folder as for training, or of class folders; or builtin:NAME.")
@pack_option
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images per step.")
@click.option("--skip-bad-images", is_flag=True, help="Leave out images that cannot be read, and list them.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
def command(
    task: str, data: str, pack: Path | None, split: str, batch_size: int, skip_bad_images: bool, device: str
) -> None:
    """Measure a task's errors on images, in ONNX Runtime.

    Uses the pack alone, no PyTorch; images are prepared exactly as in the task's training, as packnet inspect shows.
    """
    from packnet_deploy.cli.show import percent

    found = measure(
        open_chosen(pack),
        task,
        data,
        split=split,
        batch_size=batch_size,
        device=device,
        skip_bad_images=skip_bad_images,
    )
    for path in found.skipped:
        click.echo(f"{task}: left out, cannot be read: {path}")
    for note in found.notes:
        click.echo(f"{task}: {note}")
    images = f"{found.images:,} images of {data}, {found.classes} classes"
    click.echo(f"{task}: top-1 error {percent(found.top1)}, top-5 error {percent(found.top5)}  ({images})")


class Measured(NamedTuple):
    """Top-1 and top-5 error, 0..1, over so many images and classes."""

    top1: float
    top5: float
    images: int
    classes: int
    skipped: tuple[str, ...]  # images left out because they cannot be read
    notes: tuple[str, ...] = ()  # what the user should know of the figure


def measure(
    pack: Pack,
    task: str,
    data: str,
    split: str = "test",
    batch_size: int = 32,
    device: str = "cpu",
    *,
    skip_bad_images: bool = False,
) -> Measured:
    """A task's errors on a split of a data set, its export run in ONNX Runtime."""
    import numpy as np

    from packnet_deploy.data import open_split
    from packnet_deploy.data.batches import batches
    from packnet_deploy.export.api import export_task
    from packnet_deploy.runners.onnx import OnnxRunner

    top1 = top5 = 0
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "task.onnx"
        with pack.opened([task]) as opened:
            classes, spec = opened.header(task).classes, opened.task_input(task)
            _, images = open_split(data, split, classes=classes, skip_bad_images=skip_bad_images)
            export_task(opened, task, model)
        with OnnxRunner({task: model}, device=device) as runner:
            for batch, labels in batches(images, spec, batch_size):
                best = np.argsort(-runner.infer(batch, task), axis=1, kind="stable")[:, :5]
                hits = best == labels[:, None]
                top1, top5 = top1 + int(hits[:, 0].sum()), top5 + int(hits.sum())
    unboxed = "trained on images cut to bounding boxes, which these do not have: they are seen whole"
    notes = (unboxed,) if spec.boxes and not images.boxed else ()
    return Measured(1 - top1 / len(images), 1 - top5 / len(images), len(images), len(classes), images.skipped, notes)
