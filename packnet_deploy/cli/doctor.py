"""``packnet doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from packnet_deploy.cli.coming import print_next
from packnet_deploy.cli.show import console, say_json

if TYPE_CHECKING:
    from packnet_deploy.doctor.diagnosis import Diagnosis


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(as_json: bool) -> None:
    """Show what this machine can build and run, and what would fix each gap.

    Every package is tried, not only looked for. The exit code is 0 whatever is found.
    """
    from packnet_deploy.doctor.diagnosis import diagnose

    diagnosis = diagnose()
    if as_json:
        say_json(diagnosis.to_json())
    else:
        _show(diagnosis)


def _show(diagnosis: Diagnosis) -> None:
    from packnet_deploy.cli.show import table

    screen, findings = console(), diagnosis.findings
    screen.print(str(diagnosis.machine), soft_wrap=True)
    if findings.gpu is not None:
        gpu = findings.gpu
        screen.print(
            f"GPU: {gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory / 1e9:.0f} GB, driver "
            f"{findings.tools['NVIDIA driver'] or 'unknown'} for CUDA up to {gpu.driver}",
            soft_wrap=True,
        )
    installed = table("Installed", ("what", "version", "works"), ())
    for package in findings.packages.values():
        works = "" if not package.installed else package.problem or "yes"
        installed.add_row(package.name, package.version or ("?" if package.installed else "-"), works)
    for name, said in findings.tools.items():
        installed.add_row(name, said or "-", "")
    screen.print(installed)
    numbers = {gap: str(number) for number, gap in enumerate(diagnosis.gaps, start=1)}
    can = table("What can be done here", ("what", "with", "possible"), ())
    for ability in diagnosis.abilities:
        lacks = ", ".join(numbers[gap] for gap in ability.gaps)
        can.add_row(ability.what, ability.with_what, f"no: gap {lacks}" if lacks else "yes")
    screen.print(can)
    for gap, number in numbers.items():
        screen.print(f"gap {number}: {gap.what}", soft_wrap=True)
        screen.print(f"       {gap.fix}", soft_wrap=True)
    gpu_next = ["packnet gpu-report DIR measures this GPU"] if findings.gpu is not None else []
    print_next(screen, "packnet demo walks the whole road on three small tasks", *gpu_next)
