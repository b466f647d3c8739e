"""``packnet verify``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from packnet_deploy.cli.packs import open_chosen, pack_option


@click.command()
@pack_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(pack: Path | None, as_json: bool) -> None:
    """Check a pack: every hash, the frozen weights, every task's logits in ONNX Runtime.

    Needs the pack alone, no images and no PyTorch. Exit code 4 if a file is damaged, 1 if a check does not hold.
    """
    from packnet_deploy.cli.show import console, table
    from packnet_deploy.errors import CheckFailed
    from packnet_deploy.export.verify import verify_pack

    opened = open_chosen(pack)
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
        click.echo(json.dumps({"pack": str(opened.path), "tasks": rows}, indent=2))
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
