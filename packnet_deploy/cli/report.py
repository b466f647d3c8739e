"""``packnet report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The combined report, NAME.html, or a folder for it; each experiment's own, the Markdown and the figures go "
    "beside it.  [default: DIR/report.html]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def command(folder: Path, output: Path | None, as_json: bool) -> None:
    """Write an experiments folder's tables and figures as HTML and Markdown.

    DIR is what packnet experiment had as --out. Every HTML file is complete in itself. Everything is read from the
    files that training left; what has not been run yet is named.
    """
    from packnet_deploy.cli.coming import print_next
    from packnet_deploy.cli.show import console, say_json
    from packnet_deploy.experiments.report import write_report

    written = write_report(folder, output or folder)
    if as_json:
        say_json({"files": [str(path) for path in written]})
        return
    screen = console()
    for path in written:
        screen.print(f"wrote {path}", soft_wrap=True)
    print_next(screen, f"open {written[0]} in a browser")
