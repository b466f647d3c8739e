"""``packnet verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from packnet_deploy.cli.coming import command_line, print_next
from packnet_deploy.cli.flags import complete_path
from packnet_deploy.cli.packs import chosen_tasks, complete_task, open_chosen, pack_option
from packnet_deploy.cli.show import say_json

if TYPE_CHECKING:
    from packnet_deploy.export.options import ExportOptions
    from packnet_deploy.pack import Pack
    from packnet_deploy.runners.comparison import Agreement


@click.command()
@pack_option
@click.option(
    "--against",
    type=click.Choice(["torch", "onnxrt"]),
    help="Compare exports instead: with PyTorch, or with the pack's own graph in ONNX Runtime.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_task,
    help="Compare this task; may be repeated.  [all]",
)
@click.option(
    "--data",
    metavar="DIR",
    shell_complete=complete_path,
    help="Compare on the test images of this set.  [default: the probe batch]",
)
@click.option("--layout", default="dense", show_default=True, help="Compare exports of this layout.")
@click.option("--precision", default="fp32", show_default=True, help="Compare exports of this precision.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="Check an engine on the GPU here instead: switch it to every task, compare its logits with the pack's.",
)
@click.option("--device", default="cuda", show_default=True, help="With --plan, the GPU: cuda, the first, or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def command(
    context: click.Context,
    /,
    pack: Path | None,
    against: str | None,
    tasks: tuple[str, ...],
    data: str | None,
    layout: str,
    precision: str,
    plan: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Check a pack: every hash, the frozen weights, every task's logits in ONNX Runtime.

    Needs the pack alone, no images and no PyTorch. Exit code 4 if a file is damaged, 1 if a check does not hold.
    With --against, check what exports answer on images: the differences of their logits and the share of images to
    which both give the same class.
    """
    from packnet_deploy.errors import UsageError
    from packnet_deploy.export.options import ExportOptions

    opened = open_chosen(pack)
    if against is not None and plan is not None:
        raise UsageError("--against, --plan: expected one of them, got both")
    if against is not None:
        _compare(opened, tasks, against, data, ExportOptions(layout=layout, precision=precision), as_json)
        return
    for name in ("tasks", "data", "layout", "precision"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.removesuffix('s')}: only a comparison takes it; say --against torch or onnxrt")
    if plan is not None:
        _check_plan(opened, plan, device, as_json)
        return
    _check(opened, as_json)


def _check_plan(pack: Pack, plan: Path, device: str, as_json: bool) -> None:
    from packnet_deploy.cli.show import console, table
    from packnet_deploy.trt.check import engine_tolerance, target_of, verify_engine
    from packnet_deploy.trt.engine import Engine

    with pack.opened() as opened, Engine.load(plan, opened, device=device) as engine:
        rtol = engine_tolerance(engine.sidecar, opened)
        differences = verify_engine(engine, opened, engine.tasks, target_of(engine.sidecar), plan, rtol)
    if as_json:
        rows = [
            {"task": task, "max_difference": found.max_difference, "allowed": found.allowed, "passes": found.passes}
            for task, found in differences.items()
        ]
        say_json({"pack": str(pack.path), "plan": str(plan), "tasks": rows})
        return
    shown = table("", ("task",), ("logits differ by", "allowed"))
    for task, difference in differences.items():
        shown.add_row(task, f"{difference.max_difference:.2g}", f"{difference.allowed:.2g}")
    screen = console()
    screen.print(shown)
    print_next(screen, command_line("bench", plan, pack=pack.path))


def _check(opened: Pack, as_json: bool) -> None:
    from packnet_deploy.cli.show import console, table
    from packnet_deploy.errors import CheckFailed
    from packnet_deploy.runners.verify import verify_pack

    checks = list(verify_pack(opened))
    if as_json:
        rows = [
            {
                "task": check.task,
                "frozen_weights_unchanged": check.frozen,
                "max_difference": check.difference.max_difference,
                "allowed": check.difference.allowed,
                "passes": check.passes,
            }
            for check in checks
        ]
        say_json({"pack": str(opened.path), "tasks": rows})
    else:
        shown = table(f"{opened.path}", ("task", "files", "older weights"), ("logits\ndiffer by", "allowed", ""))
        for check in checks:
            difference = check.difference
            shown.add_row(
                check.task,
                "as recorded",  # verify_pack raises otherwise
                "unchanged" if check.frozen else "CHANGED",
                f"{difference.max_difference:.2g}",
                f"{difference.allowed:.2g}",
                "ok" if check.passes else "FAILED",
            )
        console().print(shown)
    failed = [check for check in checks if not check.passes]
    if failed:
        reasons = [
            f"{c.task}: "
            + (str(c.difference) if c.frozen else "the weights of earlier tasks are not those it was trained on")
            for c in failed
        ]
        raise CheckFailed(f"{opened.path}: {'; '.join(reasons)}")
    if not as_json:
        print_next(console(), command_line("export", "--all-tasks", pack=opened.path))


def _compare(
    pack: Pack, tasks: tuple[str, ...], against: str, data: str | None, options: ExportOptions, as_json: bool
) -> None:
    from packnet_deploy.cli.against import compare
    from packnet_deploy.cli.show import console, percent, table
    from packnet_deploy.errors import CheckFailed

    found = compare(pack, chosen_tasks(pack, tasks, not tasks), against, data, options)
    if as_json:
        rows = [_row(row) for row in found]
        say_json({"pack": str(pack.path), "against": against, "tasks": rows})
    else:
        shown = table(
            f"{pack.path}: {options.layout}, {options.precision}, against {against}",
            ("task",),
            ("images", "largest\ndifference", "mean", "allowed", "same class", ""),
        )
        for row in found:
            difference = row.difference
            figures = (f"{difference.max_difference:.2g}", f"{row.mean_difference:.2g}", f"{difference.allowed:.2g}")
            passed = "ok" if difference.passes else "FAILED"
            shown.add_row(row.task, f"{row.images:,}", *figures, percent(row.top1), passed)
        console().print(shown)
    if failed := [row for row in found if not row.difference.passes]:
        worst = failed[0].difference
        raise CheckFailed(
            f"{pack.path}: {failed[0].task}: logits differ by up to {worst.max_difference:.3g} from {against}, "
            f"allowed is {worst.allowed:.3g}"
        )
    if not as_json:
        how = ("--layout", options.layout, "--precision", options.precision)
        print_next(console(), command_line("export", "--all-tasks", *how, pack=pack.path))


def _row(found: Agreement) -> dict[str, Any]:
    difference = found.difference
    return {
        "task": found.task,
        "images": found.images,
        "max_difference": difference.max_difference,
        "mean_difference": found.mean_difference,
        "scale": difference.scale,
        "top1": found.top1,
        "allowed": difference.allowed,
        "passes": difference.passes,
    }
