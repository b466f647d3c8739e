"""``packnet predict``: names and probabilities for images."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from packnet_deploy.cli.answering import Answering, answering_line, answering_options, open_answering, tracked
from packnet_deploy.cli.coming import print_next
from packnet_deploy.cli.flags import complete_path
from packnet_deploy.cli.packs import complete_task
from packnet_deploy.cli.show import console, say, say_json

if TYPE_CHECKING:
    from packnet_deploy.predict.predictor import Answer

STANDARD_INPUT = "-"


def _complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """A task first, then files."""
    if context.params.get("arguments") or context.params.get("all_tasks"):
        return complete_path(context, parameter, begun)
    return [CompletionItem(name) for name in complete_task(context, parameter, begun)]


@click.command()
@click.argument("arguments", nargs=-1, metavar="TASK IMAGE...", shell_complete=_complete)
@click.option("--all", "all_tasks", is_flag=True, help="Ask every task: give no TASK, images alone.")
@click.option("--top", type=click.IntRange(1), help="Name so many classes.  [default: 5; 1 for several images]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table, while it is found out.")
@answering_options
@click.pass_context
def command(
    context: click.Context,
    /,
    arguments: tuple[str, ...],
    all_tasks: bool,
    top: int | None,
    as_json: bool,
    as_csv: bool,
    pack: Path | None,
    onnx: Path | None,
    plan: Path | None,
    device: str,
) -> int:
    """Say what tasks take images for.

    \b
    packnet predict flowers photo.jpg          one task, one image
    packnet predict --all photo.jpg            every task; the image is decoded once
    packnet predict flowers photos --csv       every image below a folder
    camera | packnet predict flowers -         an image from standard input

    An image is prepared as the task's own were in training, and seen whole. One that cannot be read is named, the
    others are answered, and the exit code is 3. Needs no PyTorch.
    """
    task, paths = (None, arguments) if all_tasks else (arguments[:1], arguments[1:])
    if not paths:
        expected = "IMAGE..." if all_tasks else "TASK IMAGE..."
        raise click.UsageError(
            f"expected {expected}: what is to be looked at? A file, a folder, or - for input", context
        )
    if as_json and as_csv:
        raise click.UsageError("--json, --csv: expected one of them, got both", context)
    images = _images(paths)
    top = top or (5 if len(images) == 1 else 1)
    given = Answering(pack, onnx, plan, device)
    with open_answering(given, task) as predictor:
        answers = tracked(predictor.stream(images, task, top), len(images), "looking")
        if as_csv:
            faults = _print_csv(answers)
        else:
            faults = (_print_json if as_json else _print_table)(list(answers), len(predictor.tasks) > 1)
        first = predictor.tasks[0]
    if not (as_json or as_csv or faults):
        how_often = answering_line(given, "eval", "--task", first, "--data", "DIR")
        print_next(console(), f"{how_often}, which says how often that is right")
    return _report(faults)


def _images(paths: Iterable[str]) -> list[Path | IO[bytes]]:
    from packnet_deploy.predict.images import files_of

    found: list[Path | IO[bytes]] = []
    for path in paths:
        if path == STANDARD_INPUT:
            content = io.BytesIO(sys.stdin.buffer.read())
            content.name = "standard input"
            found.append(content)
        else:
            found += files_of(Path(path))
    return found


def _print_csv(answers: Iterable[Answer]) -> list[Answer]:
    from packnet_deploy.predict.written import answers_to_csv

    faults: list[Answer] = []

    def readable() -> Iterable[Answer]:
        for answer in answers:
            if answer.fault is None:
                yield answer
            else:
                faults.append(answer)

    answers_to_csv(readable(), sys.stdout)
    return faults


def _print_json(answers: list[Answer], several: bool) -> list[Answer]:
    from packnet_deploy.predict.written import answer_to_json

    say_json({"answers": [answer_to_json(answer) for answer in answers]})
    return [answer for answer in answers if answer.fault is not None]


def _print_table(answers: list[Answer], several: bool) -> list[Answer]:
    from packnet_deploy.cli.show import percent, table

    columns = {"image": len(answers) > 1, "task": several, "class": True}
    shown = table("", tuple(name for name, wanted in columns.items() if wanted), ("probability",))
    for answer in answers:
        image = answer.image
        for prediction in answer.predictions:
            task = prediction.task
            for guess in prediction.guesses:
                row = zip((image, task, guess.name), columns.values(), strict=True)
                shown.add_row(*(text for text, wanted in row if wanted), percent(guess.probability))
                image = task = ""
    if shown.row_count:
        screen = console()
        if len(answers) == 1:  # not as the table's title, which is broken where the table ends
            screen.print(answers[0].image, style="bold", soft_wrap=True)
        screen.print(shown)
    return [answer for answer in answers if answer.fault is not None]


def _report(faults: list[Answer]) -> int:
    for answer in faults:
        say(f"packnet: {answer.fault}", err=True)
    return faults[0].fault.exit_code if faults and faults[0].fault else 0
