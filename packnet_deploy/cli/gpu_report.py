"""``packnet gpu-report``."""

from __future__ import annotations

from pathlib import Path

import click

from packnet_deploy.cli.coming import print_next
from packnet_deploy.cli.show import console, say, say_json, say_text


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=25,
    show_default=True,
    help="About how long it may take; what there is no time for, the same command measures the next time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
def command(folder: Path, minutes: float, as_json: bool) -> None:
    """Check and measure everything that takes a GPU, and write it to DIR.

    As gpu.md and gpu.json, with the goals that engines are to reach and what was found. Each section runs in a process
    of its own, each row is kept as soon as it is measured: what crashes or is interrupted costs one row, and the same
    command goes on where it stopped.
    """
    from packnet_deploy.gpu_report.report import JSON, MARKDOWN, gpu_report

    def tell(done: int, count: int, name: str) -> None:
        say(f"{done + 1} of {count}: {name}", err=True)

    report = gpu_report(folder, minutes, tell)
    if as_json:
        say_json(report.to_json())
        return
    say_text(report.to_markdown())
    say(f"wrote {folder / MARKDOWN} and {folder / JSON}")
    print_next(console(), "packnet build")
