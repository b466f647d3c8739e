"""Building the C++ runtime for the tests: with whatever compiler and cmake can be had here.

The build folders lie under build/engines, which git ignores, so that a second run compiles what has changed only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "engines"
BUILD = ROOT / "build" / "engines"


class CannotBuild(Exception):
    """Something is missing that no test run should install by force; says what, and the line to run."""


@dataclass(frozen=True)
class Toolchain:
    """``cmake``, and the environment that tells it which generator to use."""

    cmake: str
    environment: dict[str, str]

    def run(self, *command: str | Path, cwd: Path = SOURCE) -> str:
        """Run a command; its whole output is in the error if it fails."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-8000:]}")
        return done.stdout

    def build(self, preset: str, *options: str, targets: Sequence[str] = ("all",)) -> Path:
        """Configure and build a preset; returns its folder. Tests side by side build it one after the other."""
        BUILD.mkdir(parents=True, exist_ok=True)
        with (BUILD / f"{preset}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.run(self.cmake, "--preset", preset, *options)
            self.run(self.cmake, "--build", "--preset", preset, "--parallel", "2", "--target", *targets)
        return BUILD / preset


def find_toolchain() -> Toolchain:
    """The tools of this machine.

    Raises:
        CannotBuild: no compiler, or no cmake.
    """
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "c++"), "c++", "g++", "clang++")):
        raise CannotBuild("no C++ compiler; run: apt-get install g++")
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])  # pip puts cmake there
    cmake = shutil.which("cmake", path=path)
    if cmake is None:
        raise CannotBuild("no cmake; run: pip install cmake ninja")
    environment = {**os.environ, "PATH": path}
    if ninja := shutil.which("ninja", path=path):
        environment |= {"CMAKE_GENERATOR": "Ninja", "CMAKE_MAKE_PROGRAM": ninja}
    return Toolchain(cmake, environment)


def unpack_debian_package(name: str, target: Path) -> bool:
    """Fetch a Debian package and unpack it into ``target``, where it is not there yet; nothing is installed."""
    if (target / "usr").exists():
        return True
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    target.mkdir(parents=True, exist_ok=True)
    steps: Sequence[Sequence[str]] = (
        ("apt-get", "download", name),
        ("sh", "-c", f"dpkg-deb --extract {name}_*.deb ."),
    )
    try:
        for step in steps:
            subprocess.run(step, cwd=target, capture_output=True, timeout=60, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return True
