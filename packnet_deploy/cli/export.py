"""``packnet export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.cli.coming import command_line, print_next
from packnet_deploy.cli.flags import flags_of, given
from packnet_deploy.cli.packs import chosen_tasks, complete_task, open_chosen, pack_option
from packnet_deploy.cli.show import console, say_json
from packnet_deploy.export.options import LAYOUTS, PRECISION_NAMES, ExportOptions
from packnet_deploy.export.target import ENGINES

if TYPE_CHECKING:
    from rich.console import Console

    from packnet_deploy.export.report import ExportReport
    from packnet_deploy.pack import Pack


TRITON_MODELS = Path("models")


@click.command()
@click.option(
    "--task", "tasks", multiple=True, metavar="NAME", shell_complete=complete_task, help="The task; may be repeated."
)
@click.option("--all-tasks", is_flag=True, help="Every task of the pack. A selector always holds them all.")
@pack_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file, or for several dense or sparse exports their folder.  "
    "[default: TASK.onnx; PACK.shared for layout shared; PACK.onnx for selector; models for Triton]",
)
@click.option(
    "--format",
    "target",
    type=click.Choice(["onnx", "triton"]),
    default="onnx",
    show_default=True,
    help="triton: a model repository for Triton Inference Server, one model per task.",
)
@click.option(
    "--plan",
    "plans",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --format triton: a plan built with --switch none, instead of an ONNX file; may be repeated.",
)
@click.option("--force", is_flag=True, help="Replace ONNX files that packnet export did not write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@flags_of(ExportOptions, choices={"layout": LAYOUTS, "precision": PRECISION_NAMES, "engine": ENGINES})
@click.pass_context
def command(
    context: click.Context,
    /,
    tasks: tuple[str, ...],
    all_tasks: bool,
    pack: Path | None,
    output: Path | None,
    target: str,
    plans: tuple[Path, ...],
    force: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """Write tasks as ONNX files, each checked against the pack.

    A file takes its name only after ONNX Runtime has given the pack's own logits with it.
    Input `images`, float32 [batch, channels, height, width]; output `logits`, float32. Needs no PyTorch.
    """
    options = ExportOptions(**given(context, ExportOptions))
    opened = open_chosen(pack)
    if plans:
        _expect_plans_alone(target, bool(tasks) or all_tasks, given(context, ExportOptions))
        _export_plans(opened, plans, output or TRITON_MODELS, as_json)
        return
    if target == "triton":
        reports = _export_triton(opened, tasks, all_tasks, output, options)
    else:
        reports = _export(opened, tasks, all_tasks, output, options, force)
    if as_json:
        say_json({"exports": [_json(report) for report in reports]})
        return
    screen = console()
    _show(screen, reports)
    print_next(screen, *_next(opened, reports, (output or TRITON_MODELS) if target == "triton" else None))


def _export(
    pack: Pack, tasks: tuple[str, ...], all_tasks: bool, output: Path | None, options: ExportOptions, force: bool
) -> list[ExportReport]:
    from packnet_deploy.cli.targets import expect_own_export
    from packnet_deploy.errors import UsageError
    from packnet_deploy.export.api import export_selector, export_task
    from packnet_deploy.export.shared import export_shared

    stem = pack.path.resolve().name.removesuffix(".pack")
    if options.layout == "selector":
        if tasks:
            raise UsageError("--task: a selector holds every task of the pack; leave --task out")
        target = output or Path(f"{stem}.onnx")
        expect_own_export(target, force)
        return [export_selector(pack, target, options)]
    names = chosen_tasks(pack, tasks, all_tasks)
    if options.layout == "shared":
        return [export_shared(pack, names, output or Path(f"{stem}.shared"), options)]
    if all_tasks or len(names) > 1:
        folder = output or Path()
        for name in names:
            expect_own_export(folder / f"{name}.onnx", force)
        folder.mkdir(parents=True, exist_ok=True)
        with pack.opened(names) as opened:
            return [export_task(opened, name, folder / f"{name}.onnx", options) for name in names]
    target = output or Path(f"{names[0]}.onnx")
    expect_own_export(target, force)
    return [export_task(pack, names[0], target, options)]


def _export_triton(
    pack: Pack, tasks: tuple[str, ...], all_tasks: bool, output: Path | None, options: ExportOptions
) -> list[ExportReport]:
    from packnet_deploy.triton import export_triton

    repository = output or TRITON_MODELS
    names = chosen_tasks(pack, tasks, all_tasks)
    with pack.opened(names) as opened:
        return [export_triton(opened, name, repository, options) for name in names]


def _expect_plans_alone(target: str, names_tasks: bool, options: dict[str, Any]) -> None:
    from packnet_deploy.errors import UsageError

    if target != "triton":
        raise UsageError(f"--plan: only --format triton takes plans, got --format {target}")
    if names_tasks:
        raise UsageError("--task, --all-tasks: each plan is of one task; leave them out")
    if options:
        flag = "--" + next(iter(options)).replace("_", "-")
        raise UsageError(f"{flag}: a plan is taken as it is; leave it out")


def _export_plans(pack: Pack, plans: tuple[Path, ...], repository: Path, as_json: bool) -> None:
    from packnet_deploy.cli.show import size, table
    from packnet_deploy.triton import export_triton_plan

    written = [export_triton_plan(plan, pack, repository) for plan in plans]
    if as_json:
        say_json({"models": [asdict(done) | {"file": str(done.file)} for done in written]})
        return
    shown = table("", ("task", "file", "for a server with"), ("bytes",))
    for done in written:
        server = f"TensorRT {done.tensorrt}, compute capability {', '.join(done.compute_capabilities)}"
        shown.add_row(done.task, str(done.file), server, size(done.bytes))
    screen = console()
    screen.print(shown)
    print_next(screen, f"tritonserver --model-repository={repository}")


def _show(screen: Console, reports: list[ExportReport]) -> None:
    from packnet_deploy.cli.show import size, table

    shown = table("", ("task", "file"), ("bytes", "logits differ by", "allowed"))
    for report in reports:
        for row, task in enumerate(report.tasks):
            difference = report.differences.get(task)
            checked = (
                (f"{difference.max_difference:.2g}", f"{difference.allowed:.2g}") if difference else ("not checked", "")
            )
            files, written = (_files(report, row), size(report.bytes)) if row == 0 else (_files(report, row), "")
            shown.add_row(task, files, written, *checked)
    screen.print(shown)
    for note in dict.fromkeys(f"{', '.join(report.tasks)}: {report.note}" for report in reports if report.note):
        screen.print(note)


def _next(pack: Pack, reports: list[ExportReport], repository: Path | None) -> list[str]:
    """Try what was written, and measure it.

    Args:
        repository: Triton's, if the files are for that.
    """
    if repository is not None:
        return [f"tritonserver --model-repository={repository}"]
    first, options = reports[0], reports[0].options
    answers = first.files[0].parent if options.layout == "shared" else first.files[0]
    files = [answers] if len(first.tasks) > 1 else [report.files[0] for report in reports]
    if options.precision == "bf16":  # which ONNX Runtime's CPU cannot run
        return [command_line("build", "--precision", options.precision, pack=pack.path)]
    return [command_line("predict", first.tasks[0], "IMAGE", "--onnx", answers), command_line("bench", *files)]


def _json(report: ExportReport) -> dict[str, Any]:
    return {
        "layout": report.options.layout,
        "tasks": list(report.tasks),
        "files": [str(file) for file in report.files],
        "bytes": report.bytes,
        "differences": {
            task: {"max_difference": found.max_difference, "allowed": found.allowed}
            for task, found in report.differences.items()
        },
        "note": report.note,
    }


def _files(report: ExportReport, row: int) -> str:
    """The files to name beside a report's task: its own graph in a folder; else all of them, once."""
    if report.options.layout == "shared":
        return str(report.files[row])
    return ", ".join(map(str, report.files)) if row == 0 else ""
