"""``packnet doctor``: look, judge, and put it together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from packnet_deploy.bench.machine import Machine, describe_machine
from packnet_deploy.doctor.abilities import Ability, Findings, Gap, abilities
from packnet_deploy.doctor.installed import find_packages, find_tools
from packnet_deploy.trt.sidecar import Gpu


@dataclass(frozen=True)
class Diagnosis:
    """This machine, what is installed, and what can be done with it."""

    machine: Machine
    findings: Findings
    abilities: tuple[Ability, ...]

    @property
    def gaps(self) -> dict[Gap, tuple[str, ...]]:
        """Every gap once, with what it stands in the way of."""
        gaps: dict[Gap, tuple[str, ...]] = {}
        for ability in self.abilities:
            for gap in ability.gaps:
                gaps[gap] = (*gaps.get(gap, ()), f"{ability.what} ({ability.with_what})")
        return gaps

    def to_json(self) -> dict[str, Any]:
        """In types that ``json.dumps`` takes."""
        return {
            "machine": asdict(self.machine),
            **asdict(self.findings),
            "abilities": [{**asdict(ability), "possible": ability.possible} for ability in self.abilities],
        }


def diagnose() -> Diagnosis:
    """Look at this machine. Whatever is missing or broken is found, not raised; takes seconds."""
    packages = find_packages()
    cuda = packages["cuda-python"].found
    gpu = Gpu(**cuda["gpu"]) if cuda.get("gpu") else None
    findings = Findings(packages, gpu, "" if gpu else str(cuda.get("no_gpu", "")), find_tools())
    return Diagnosis(describe_machine(), findings, abilities(findings))
