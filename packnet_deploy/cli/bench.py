"""``packnet bench``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.cli.flags import flags_of, given
from packnet_deploy.cli.packs import open_chosen, pack_option


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx]...")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="The task; may be repeated.  [default: all]")
@pack_option
@flags_of(BenchOptions)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the latencies as CSV to this file too.")
@click.pass_context
def command(
    context: click.Context,
    /,
    models: tuple[Path, ...],
    tasks: tuple[str, ...],
    pack: Path | None,
    as_json: bool,
    csv_file: Path | None,
    **_: Any,
) -> None:
    """Measure latency, throughput and memory of tasks in ONNX Runtime.

    Each task's session alone, then all of them held together, each in a process of its own. Measures a pack's tasks
    (exported to a temporary folder), or MODEL.onnx files as they are.
    """
    from packnet_deploy.bench.plan import run_bench
    from packnet_deploy.cli.show import console
    from packnet_deploy.errors import UsageError

    options = BenchOptions(**given(context, BenchOptions))
    if models and (tasks or pack):
        raise UsageError("expected MODEL.onnx files, or --pack and --task; got both")
    if len({model.stem for model in models}) < len(models):
        raise UsageError("models: expected files of different names, got the same name twice")
    with tempfile.TemporaryDirectory() as folder:
        files = {m.stem: m for m in models} if models else _exported(pack, tasks, Path(folder))
        report = run_bench(files, options)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        from packnet_deploy.bench.table import bench_tables

        console().print(bench_tables(report))
    if csv_file is not None:  # last: a file that cannot be written must not cost the figures
        csv_file.write_text(report.to_csv(), encoding="utf-8")


def _exported(pack: Path | None, tasks: tuple[str, ...], folder: Path) -> dict[str, Path]:
    from packnet_deploy.export.api import export_task

    opened = open_chosen(pack)
    names = [opened.task(name).name for name in tasks] or [entry.name for entry in opened.tasks]
    for name in names:
        export_task(opened, name, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in names}
