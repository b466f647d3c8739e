"""``packnet bench``."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.bench.options import BACKENDS, BenchOptions
from packnet_deploy.cli.coming import print_next
from packnet_deploy.cli.flags import flags_of, given
from packnet_deploy.cli.packs import complete_task, open_chosen, pack_option
from packnet_deploy.cli.show import console, say_json
from packnet_deploy.cli.targets import expect_folder_of
from packnet_deploy.errors import printable
from packnet_deploy.export.options import PRECISION_NAMES
from packnet_deploy.trt.options import SWITCHES

if TYPE_CHECKING:
    from packnet_deploy.bench.job import Job


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_task,
    help="The task; may be repeated.  [default: all]",
)
@pack_option
@flags_of(BenchOptions, choices={"backends": BACKENDS, "switch": SWITCHES, "precision": PRECISION_NAMES})
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the latencies as CSV to this file too.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the figures to this file too: .svg, .png or .pdf.")
@click.pass_context
def command(
    context: click.Context,
    /,
    files: tuple[Path, ...],
    tasks: tuple[str, ...],
    pack: Path | None,
    as_json: bool,
    csv_file: Path | None,
    plot: Path | None,
    **_: Any,
) -> None:
    """Measure latency, throughput, memory and switching time of tasks.

    Each way to serve them in a process of its own. Measures ONNX files and plans as they are (plans beside their
    sidecars, with --pack); or a pack's tasks, on each --backend: exported in every layout, built with every --switch,
    in a temporary folder; with a recommendation for this machine.
    """
    from packnet_deploy.bench.plot import check_plot, draw
    from packnet_deploy.bench.run import run_jobs

    options = BenchOptions(**given(context, BenchOptions))
    if plot is not None:
        check_plot(plot)
    for path in (csv_file, plot):
        expect_folder_of(path)
    with tempfile.TemporaryDirectory() as folder, console().status("preparing") as status:  # shown on terminals only
        jobs = _jobs(files, tasks, pack, Path(folder), options)
        report = run_jobs(
            jobs,
            options,
            # Spinners take their text past the screen.
            lambda done, all, job: status.update(
                printable(f"{done + 1} of {all}: {job.label}, {', '.join(job.models)}")
            ),
        )
    if as_json:
        from packnet_deploy.bench.memory import spare_bytes, spare_gpu_bytes
        from packnet_deploy.bench.ways import recommend, ways_of

        document = report.to_json()
        if ways := ways_of(report.measurements):
            recommended = recommend(ways, spare_bytes(), spare_gpu_bytes())
            document |= {"ways": [asdict(way) for way in ways], "recommended": recommended}
        say_json(document)
    else:
        from packnet_deploy.bench.table import bench_tables

        screen = console()
        screen.print(bench_tables(report))
        print_next(screen, "the same with --plot FILE.svg draws it, with --json has every figure")
    # Last: a file that cannot be written must not cost the figures.
    if csv_file is not None:
        csv_file.write_text(report.to_csv(), encoding="utf-8")
    if plot is not None:
        draw(report, plot)


def _jobs(
    files: tuple[Path, ...], tasks: tuple[str, ...], pack: Path | None, folder: Path, options: BenchOptions
) -> tuple[Job, ...]:
    from packnet_deploy.bench.prepare import jobs_of_models, jobs_of_pack, jobs_of_plans, split_files
    from packnet_deploy.errors import UsageError

    if not files:
        opened = open_chosen(pack)
        names = [opened.task(name).name for name in tasks] or [entry.name for entry in opened.tasks]
        return jobs_of_pack(opened, names, folder, options)
    models, plans = split_files(files)
    if models and (tasks or (pack and not plans)):
        raise UsageError("expected ONNX files, or --pack and --task; got both")
    jobs = jobs_of_plans(plans, open_chosen(pack), tasks, options) if plans else ()
    return (jobs_of_models(models, options) if models else ()) + jobs
