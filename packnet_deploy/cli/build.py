"""``packnet build``."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.cli.coming import command_line, print_next
from packnet_deploy.cli.flags import flags_of, given
from packnet_deploy.cli.packs import chosen_tasks, complete_task, open_chosen, pack_option
from packnet_deploy.cli.show import console, say_json
from packnet_deploy.errors import printable
from packnet_deploy.trt.options import CHOICES, BuildOptions

if TYPE_CHECKING:
    from rich.console import Console

    from packnet_deploy.pack import Pack
    from packnet_deploy.trt.build import BuildReport
    from packnet_deploy.trt.dry_run import DryRun


@click.command()
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_task,
    help="With --switch none: the task; may be repeated.",
)
@click.option("--all-tasks", is_flag=True, help="With --switch none: a plan for every task. Other plans hold them all.")
@pack_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The plan, or for several plans their folder.  [default: PACK.plan; TASK.plan for switch none]",
)
@click.option("--dry-run", is_flag=True, help="Build nothing: show what would be refitted and what memory it takes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@flags_of(BuildOptions, choices=CHOICES)
@click.pass_context
def command(
    context: click.Context,
    /,
    tasks: tuple[str, ...],
    all_tasks: bool,
    pack: Path | None,
    output: Path | None,
    dry_run: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """Build TensorRT engines that can be switched between the tasks of a pack.

    One plan serves every task: it is given a task's masked weights, and becomes that task. Beside PLAN lies PLAN.json:
    what it was built from, and all that must fit before it is loaded. A plan is native code: load none from strangers.
    """
    options = BuildOptions(**given(context, BuildOptions))
    opened = open_chosen(pack)
    if dry_run:
        from packnet_deploy.trt.dry_run import dry_run as would_build

        _show_dry_run(opened, would_build(opened, options), as_json)
        return
    reports = _build(opened, tasks, all_tasks, output, options)
    if as_json:
        say_json({"plans": [_json(report) for report in reports]})
    else:
        _show(reports)
        print_next(console(), command_line("bench", *(report.plan for report in reports), pack=opened.path))


def _build(
    pack: Pack, tasks: tuple[str, ...], all_tasks: bool, output: Path | None, options: BuildOptions
) -> list[BuildReport]:
    from packnet_deploy.errors import UsageError
    from packnet_deploy.trt.build import build_plan, build_plans

    with _bar(console()) as bar:
        if options.switch != "none":
            if tasks or all_tasks:
                raise UsageError(f"--task, --all-tasks: a plan with switch {options.switch} holds all; leave them out")
            stem = pack.path.resolve().name.removesuffix(".pack")
            return [build_plan(pack, output or Path(f"{stem}.plan"), options, progress=bar)]
        names = chosen_tasks(pack, tasks, all_tasks)
        if all_tasks or len(names) > 1:
            folder = output or Path()
            folder.mkdir(parents=True, exist_ok=True)
            return build_plans(pack, {name: folder / f"{name}.plan" for name in names}, options, bar)
        return [build_plan(pack, output or Path(f"{names[0]}.plan"), options, names[0], bar)]


class _Silent:
    """Draws nothing: what is printed in the end is enough where there is no terminal."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        pass

    def phase(self, name: str, parent: str | None, steps: int) -> None: ...
    def step(self, name: str, done: int) -> None: ...
    def done(self, name: str) -> None: ...


class _Bar(_Silent):
    """One bar for each phase that TensorRT is in, the inner ones below."""

    def __init__(self, screen: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            console=screen,
            transient=True,
        )
        self._ids: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._bars.stop()

    def phase(self, name: str, parent: str | None, steps: int) -> None:
        self._ids[name] = self._bars.add_task(printable(name), total=steps)

    def step(self, name: str, done: int) -> None:
        self._bars.update(self._ids[name], completed=done)

    def done(self, name: str) -> None:
        self._bars.remove_task(self._ids.pop(name))


def _bar(screen: Console) -> _Silent:
    return _Bar(screen) if screen.is_terminal else _Silent()


def _show(reports: list[BuildReport]) -> None:
    from packnet_deploy.cli.show import size, table
    from packnet_deploy.runners.comparison import worst

    shown = table(
        "", ("plan", "switch", "tasks", "for"), ("bytes", "sparse layers\nmay be / are", "logits differ by", "allowed")
    )
    for report in reports:
        sidecar = report.sidecar
        eligible = sum(layer.eligible for layer in sidecar.sparsity) if sidecar.sparse_weights else 0
        picked = [layer.picked for layer in sidecar.sparsity]
        are = "?" if sidecar.sparse_weights and None in picked else str(sum(map(bool, picked)))
        most = worst(report.differences.values())
        checked = ("not run", "") if most is None else (f"{most.max_difference:.2g}", f"{most.allowed:.2g}")
        shown.add_row(
            str(report.plan),
            sidecar.switch,
            ", ".join(task.name for task in sidecar.tasks),
            ", ".join(sidecar.compute_capabilities),
            size(sidecar.plan_bytes),
            f"{eligible} / {are}",
            *checked,
        )
    screen = console()
    screen.print(shown)
    for note in dict.fromkeys(note for report in reports for note in report.notes):
        screen.print(note, soft_wrap=True)


def _json(report: BuildReport) -> dict[str, Any]:
    return {
        "plan": str(report.plan),
        "sidecar": json.loads(report.sidecar.to_bytes()),
        "differences": {
            task: {"max_difference": d.max_difference, "allowed": d.allowed} for task, d in report.differences.items()
        },
        "notes": list(report.notes),
    }


def _show_dry_run(pack: Pack, found: DryRun, as_json: bool) -> None:
    from dataclasses import asdict

    from packnet_deploy.cli.show import size, table

    if as_json:
        say_json(asdict(found))
        return
    screen = console()
    marks = table("Weights that change with the task", ("weight", "from"), ("shape", "bytes", "refittable", "2:4"))
    for one in found.weights:
        marks.add_row(
            one.weight.name,
            "the bank" if one.weight.banked else "each task",
            " x ".join(map(str, one.weight.shape)),
            size(one.bytes),
            {None: "not asked", True: "yes", False: "NO"}[one.marked],
            "yes" if one.sparse else "",
        )
    screen.print(marks)
    tasks = len(found.ways[0].memory)
    memory = table(
        f"GPU memory for weights, in models of {size(found.model)}, by number of tasks",
        ("switch", "bank"),
        (*map(str, range(1, tasks + 1)), "bytes"),
    )
    for way in found.ways:
        models = (f"{count / found.model:.2f}" for count in way.memory)
        memory.add_row(way.switch, way.bank, *models, size(way.memory[-1]))
    screen.print(memory)
    if found.steps:
        screen.print(_steps(found))
    screen.print(
        "Counted: weights in the plan, what changes with the task, and the bank's parts on the GPU. Activations and "
        "workspace come on top; only a GPU tells. Filters that are inputs (bind) are laid out anew at every "
        "inference (NVIDIA/TensorRT#3740), but for --channels-last; packnet bench tells what that costs.",
        soft_wrap=True,
    )
    screen.print(f"Recommended: {found.recommended}.", soft_wrap=True)
    if found.asked:
        screen.print(f"Refittable: what {found.asked} answers.")
    else:
        screen.print("Refittable was not asked: no TensorRT starts here; pip install 'packnet-deploy[rtx]' brings one.")
    print_next(screen, command_line("build", pack=pack.path))


def _steps(found: DryRun) -> Any:
    from packnet_deploy.cli.show import size, table

    shown = table(
        "A switch",
        ("from, to",),
        ("bind: weights written", "bytes read", "launches", "refit: bytes given", "in groups"),
    )
    for step in found.steps:
        read = step.values + step.positions + step.own
        shown.add_row(
            f"{step.source} to {step.target}",
            f"{step.weights:,}",
            size(read),
            str(step.launches),
            size(step.given),
            str(step.groups),
        )
    return shown
