"""``packnet export``."""

from __future__ import annotations

from pathlib import Path

import click

from packnet_deploy.cli.packs import chosen_tasks, open_chosen, pack_option


@click.command()
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="The task; may be repeated.")
@click.option("--all-tasks", is_flag=True, help="Every task of the pack.")
@pack_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file, for one task; the folder, for several.  [default: TASK.onnx in this folder]",
)
@click.option(
    "--layout",
    default="dense",
    show_default=True,
    help="dense: one self-contained ONNX. sparse: smaller where less than a third of the weights are owned; "
    "ONNX Runtime only, and no faster.",
)
@click.option("--no-verify", is_flag=True, help="Leave out the check in ONNX Runtime.")
def command(
    tasks: tuple[str, ...], all_tasks: bool, pack: Path | None, output: Path | None, layout: str, no_verify: bool
) -> None:
    """Write tasks as ONNX files, each checked against the pack.

    A file takes its name only after ONNX Runtime has given the pack's own logits with it (to 1e-4 of their scale).
    Input `images`, float32 [batch, channels, height, width]; output `logits`. Needs no PyTorch.
    """
    from packnet_deploy.cli.show import console, size, table
    from packnet_deploy.export.api import export_task

    opened = open_chosen(pack)
    names = chosen_tasks(opened, tasks, all_tasks)
    several = all_tasks or len(names) > 1
    if several and output is not None:
        output.mkdir(parents=True, exist_ok=True)
    reports = []
    for name in names:
        target = (output or Path()) / f"{name}.onnx" if several else output or Path(f"{name}.onnx")
        reports.append(export_task(opened, name, target, layout=layout, verify=not no_verify))
    shown = table("", ("task", "file"), ("bytes", "logits differ by", "allowed"))
    for report in reports:
        difference = report.difference
        checked = (
            (f"{difference.max_difference:.2g}", f"{difference.allowed:.2g}") if difference else ("not checked", "")
        )
        shown.add_row(report.task, ", ".join(map(str, report.files)), size(report.bytes), *checked)
    screen = console()
    screen.print(shown)
    for note in dict.fromkeys(f"{report.task}: {report.note}" for report in reports if report.note):
        screen.print(note)
