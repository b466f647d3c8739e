"""``packnet bench``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
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
    """Measure latency, throughput, memory and switching time of tasks in ONNX Runtime.

    Each task's session alone, then all of them held together, each in a process of its own. Measures MODEL.onnx files
    as they are, or a pack's tasks, exported to a temporary folder: then in every layout that serves several tasks,
    with a recommendation for this machine.
    """
    from packnet_deploy.bench.plan import run_bench
    from packnet_deploy.cli.show import console
    from packnet_deploy.errors import UsageError

    options = BenchOptions(**given(context, BenchOptions))
    if models and (tasks or pack):
        raise UsageError("expected MODEL.onnx files, or --pack and --task; got both")
    with tempfile.TemporaryDirectory() as folder:
        if models:
            report = run_bench(_as_they_are(models), options)
        else:
            dense, others = _exported(pack, tasks, Path(folder))
            report = run_bench(dense, options, others=others)
    if as_json:
        from packnet_deploy.bench.memory import spare_bytes
        from packnet_deploy.bench.strategies import recommend, strategies

        document = report.to_json()
        if ways := strategies(report.measurements):
            document |= {"ways": [asdict(way) for way in ways], "recommended": recommend(ways, spare_bytes())}
        click.echo(json.dumps(document, indent=2))
    else:
        from packnet_deploy.bench.table import bench_tables

        console().print(bench_tables(report))
    if csv_file is not None:  # last: a file that cannot be written must not cost the figures
        csv_file.write_text(report.to_csv(), encoding="utf-8")


def _as_they_are(models: tuple[Path, ...]) -> dict[str, Path]:
    """Files of one task go by their file names; a selector, or a folder, by its tasks."""
    from packnet_deploy.errors import UsageError
    from packnet_deploy.runners.exported import tasks_in

    files: dict[str, Path] = {}
    for model in models:
        tasks = tasks_in(model)
        for name, path in tasks.items() if len(tasks) > 1 or model.is_dir() else [(model.stem, model)]:
            if name in files:
                raise UsageError(f"models: '{name}' is in {files[name]} and in {path}; expected each name once")
            files[name] = path
    return files


def _exported(
    pack: Path | None, tasks: tuple[str, ...], folder: Path
) -> tuple[dict[str, Path], dict[str, dict[str, Path]]]:
    """Every task's dense file; and by strategy, where there are several tasks, the files of the other layouts."""
    from packnet_deploy.export.api import export_selector, export_task
    from packnet_deploy.export.folder import export_shared
    from packnet_deploy.export.options import ExportOptions

    opened = open_chosen(pack)
    names = [opened.task(name).name for name in tasks] or [entry.name for entry in opened.tasks]
    dense = {name: export_task(opened, name, folder / f"{name}.onnx").files[0] for name in names}
    if len(names) == 1:
        return dense, {}
    shared = {name: folder / "shared" / f"{name}.onnx" for name in names}
    export_shared(opened, names, folder / "shared", ExportOptions(layout="shared"))
    export_selector(opened, folder / "selector.onnx", ExportOptions(layout="selector"))
    selector = dict.fromkeys(names, folder / "selector.onnx")
    return dense, {"shared": shared, "mapped": shared, "selector": selector}
