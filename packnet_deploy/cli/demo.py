"""``packnet demo``: the whole road on the quickstart, and one table of what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.cli.coming import command_line, print_next
from packnet_deploy.cli.show import console, say, say_json

if TYPE_CHECKING:
    from rich.console import Console

BENCH_SECONDS = 0.5  # a task and batch size
BATCHES = (1, 32)
SMALL_NETWORK = ("--arch", "squeezenet1_1", "--image-size", "64")  # what two cores train on the images in minutes
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end; progress goes to standard error.")
def command(output: Path, images: Path | None, as_json: bool) -> None:
    """Train, verify, export and measure the quickstart, in a folder of its own.

    Leaves quickstart.pack and one ONNX file a task there. Run again, it keeps the pack that is there and does the rest
    anew. With --images it only writes images: for whoever has none at hand to try packnet train on.
    """
    if images is not None:
        _write_images(images, as_json)
        return
    _demo(output, as_json)


def _write_images(folder: Path, as_json: bool) -> None:
    from packnet_deploy.data.builtin import NAMES, write_folder
    from packnet_deploy.errors import UsageError

    if there := [folder / name for name in NAMES if (folder / name).exists()]:
        raise UsageError(f"{there[0]}: expected nothing there yet, got a folder or a file; choose another --images")
    written = []
    for name in NAMES:
        count = write_folder(name, folder / name)
        written.append({"data": str(folder / name), "images": count})
        if not as_json:
            say(f"{folder / name}: {count:,} images")
    if as_json:
        say_json({"sets": written})
        return
    print_next(console(), command_line("train", "--task", NAMES[0], "--data", folder / NAMES[0], *SMALL_NETWORK))


def _demo(folder: Path, as_json: bool) -> None:
    from packnet_deploy.bench.options import BenchOptions
    from packnet_deploy.bench.run import run_bench
    from packnet_deploy.cli.train import train_all
    from packnet_deploy.errors import CheckFailed
    from packnet_deploy.export.api import export_task
    from packnet_deploy.pack import Pack
    from packnet_deploy.predict.evaluation import evaluate
    from packnet_deploy.predict.opening import load
    from packnet_deploy.runners.verify import verify_pack
    from packnet_deploy.training.recipe import QUICKSTART_RECIPE, read_recipe

    screen = console(err=as_json)
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_all(read_recipe(QUICKSTART_RECIPE, pack=folder / "quickstart.pack"), screen)
    (path,) = trained.packs
    pack = Pack.open(path)
    passed = {check.task: check.passes for check in verify_pack(pack)}
    reports = {name: export_task(pack, name, folder / f"{name}.onnx") for name in passed}
    with load(path) as predictor:
        errors = {name: evaluate(predictor, name, QUICKSTART_DATA.format(task=name)).error for name in passed}
    screen.print("measuring latency, each task alone and all together …")
    bench = run_bench(
        {name: report.files[0] for name, report in reports.items()}, BenchOptions(BATCHES, seconds=BENCH_SECONDS)
    )
    latency = {
        (row.task, row.batch): row.timing.p50_ms
        for measured in bench.measurements
        if measured.way == "separate"
        for row in measured.latencies
    }
    rows = []
    for task in trained.tasks:
        name = task["task"]
        report, difference = reports[name], reports[name].difference
        assert difference is not None
        rows.append(
            task
            | {"passes": passed[name], "test_error": errors[name], "onnx": str(report.files[0])}
            | {"onnx_bytes": report.bytes, "export_difference": difference.max_difference / difference.scale}
            | {"p50_ms": {str(batch): latency[name, batch] for batch in BATCHES}}
        )
    if as_json:
        say_json({"folder": str(folder), "machine": str(bench.machine), "tasks": rows})
    else:
        _print(screen, rows, str(bench.machine), len(pack.graph_bytes()))
    if failed := [name for name, passes in passed.items() if not passes]:
        raise CheckFailed(f"{path}: verification failed for {', '.join(failed)}; run: packnet verify --pack {path}")


def _print(screen: Console, rows: Sequence[Mapping[str, Any]], machine: str, graph_bytes: int) -> None:
    from packnet_deploy.cli.show import percent, size, table

    pack = rows[0]["pack"]
    shown = table(
        f"{pack} and its exports, all three tasks packed",
        ("task",),
        ("test\nerror", "change", "delta", "ONNX", "export diff\n÷ scale", *(f"p50\n{batch} img" for batch in BATCHES)),
    )
    for row in rows:
        shown.add_row(
            row["task"],
            percent(row["test_error"]),
            "-" if row["change"] is None else f"{row['change']:g}",
            size(row["bytes"]),
            size(row["onnx_bytes"]),
            f"{row['export_difference']:.1e}",
            *(f"{milliseconds:.2f} ms" for milliseconds in row["p50_ms"].values()),
        )
    screen.print(shown)
    total = size(graph_bytes + sum(row["bytes"] for row in rows))
    screen.print(f"pack: {total} for {len(rows)} tasks; {machine}", soft_wrap=True)
    screen.print(f"written: {pack}, {', '.join(row['onnx'] for row in rows)}", soft_wrap=True)
    print_next(screen, command_line("inspect", pack), "on images of your own: packnet train --task NAME --data DIR")
