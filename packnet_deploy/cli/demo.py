"""``packnet demo``: the whole road on the quickstart, and one table of what came out."""

from __future__ import annotations

from pathlib import Path

import click

from packnet_deploy.cli.show import say

BENCH_SECONDS = 0.5  # a task and batch size
QUICKSTART_DATA = "builtin:{task}"  # each quickstart task bears its data set's name


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="packnet-demo",
    show_default=True,
    help="The folder to work in; it is made.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Instead of all that: write the demo's images to DIR/digits, DIR/letters and DIR/textures, to train on.",
)
def command(output: Path, images: Path | None) -> None:
    """Train, verify, export and measure the quickstart, in a folder of its own.

    Leaves quickstart.pack and one ONNX file a task there. Run again, it keeps the pack that is there and does the rest
    anew. With --images it only writes images: for whoever has none at hand to try packnet train on.
    """
    if images is not None:
        _write_images(images)
        return
    _demo(output)


def _write_images(folder: Path) -> None:
    from packnet_deploy.data.builtin import NAMES, write_folder
    from packnet_deploy.errors import UsageError

    if there := [folder / name for name in NAMES if (folder / name).exists()]:
        raise UsageError(f"{there[0]}: expected nothing there yet, got a folder or a file; choose another --images")
    for name in NAMES:
        count = write_folder(name, folder / name)
        say(f"{folder / name}: {count:,} images, to be given as --data {folder / name}")


def _demo(folder: Path) -> None:
    from packnet_deploy.bench.options import BenchOptions
    from packnet_deploy.bench.run import run_bench
    from packnet_deploy.cli.show import console, percent, size, table
    from packnet_deploy.cli.train import train_all
    from packnet_deploy.errors import CheckFailed
    from packnet_deploy.export.api import export_task
    from packnet_deploy.pack import Pack
    from packnet_deploy.predict.evaluation import evaluate
    from packnet_deploy.predict.opening import load
    from packnet_deploy.runners.verify import verify_pack
    from packnet_deploy.training.recipe import QUICKSTART_RECIPE, read_recipe

    screen = console()
    folder.mkdir(parents=True, exist_ok=True)
    path, changes = train_all(read_recipe(QUICKSTART_RECIPE, pack=folder / "quickstart.pack"))
    pack = Pack.open(path)
    names = [entry.name for entry in pack.tasks]
    checks = {check.task: check for check in verify_pack(pack)}
    reports = {name: export_task(pack, name, folder / f"{name}.onnx") for name in names}
    with load(path) as predictor:
        errors = {name: evaluate(predictor, name, QUICKSTART_DATA.format(task=name)).error for name in names}
    screen.print("measuring latency, each task alone and all together …")
    bench = run_bench({name: report.files[0] for name, report in reports.items()}, BenchOptions(seconds=BENCH_SECONDS))

    shown = table(
        f"{path} and its exports, all three tasks packed",
        ("task",),
        ("test\nerror", "change", "delta", "ONNX", "export diff\n÷ scale", "p50\n1 image", "p50\n32 img"),
    )
    latency = {
        (row.task, row.batch): row.timing.p50_ms
        for measured in bench.measurements
        if measured.way == "separate"
        for row in measured.latencies
    }
    for entry in pack.tasks:
        report, difference = reports[entry.name], reports[entry.name].difference
        assert difference is not None
        shown.add_row(
            entry.name,
            percent(errors[entry.name]),
            f"{changes[entry.name]:g}" if entry.name in changes else "-",
            size(entry.bytes),
            size(report.bytes),
            f"{difference.max_difference / difference.scale:.1e}",
            f"{latency[entry.name, 1]:.2f} ms",
            f"{latency[entry.name, 32]:.2f} ms",
        )
    screen.print(shown)
    deltas = sum(entry.bytes for entry in pack.tasks)
    screen.print(
        f"pack: {size(deltas + len(pack.graph_bytes()))} for {len(names)} tasks; {bench.machine}", soft_wrap=True
    )
    screen.print(f"left in {folder}: {path.name}, {', '.join(f'{name}.onnx' for name in names)}", soft_wrap=True)
    screen.print(f"next: packnet inspect {path}; on images of your own: packnet train --task NAME --data DIR")
    if failed := [name for name, check in checks.items() if not check.passes]:
        raise CheckFailed(f"{path}: verification failed for {', '.join(failed)}; run: packnet verify --pack {path}")
