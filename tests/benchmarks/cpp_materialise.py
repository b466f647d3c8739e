"""The C++ runtime: how long VGG-16's last of four tasks takes to be materialised, beside Python's reader.

    python tests/benchmarks/cpp_materialise.py [--dir DIR]     (needs 1 GB of disk, 3 GB of memory, g++ and cmake)

Hashing aside, into memory that has been written before. The measure is one scalar pass over owner, value and output
(engines/bench/materialise.cpp), taken in the same run. "Deltas" decodes from the files; "bank" copies what is owned
out of memory, as a switch of tasks does. "Portable" is the code for processors without BMI2 and SHA instructions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pack_vgg16 import make

sys.path.append(str(Path(__file__).parents[1] / "engines"))

from native import CannotBuild, find_toolchain

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.pack import Pack
from packnet_deploy.pack.decode import decode_param


def python_decode(path: Path) -> float:
    """Seconds of Python's decoder for the last task, hashing aside, into memory that has been written; best of 3."""
    pack = Pack.open(path)
    dense = [np.ones(param.shape, np.float32) for param in pack.packable]
    times = []
    with pack.opened() as opened:
        files = opened.chain.files
        for _ in range(3):
            start = time.perf_counter()
            for param, values in zip(pack.packable, dense, strict=True):
                decode_param(param, files, values)
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where to put the pack (default: a temporary folder)")
    options = parser.parse_args()
    try:
        folder = find_toolchain().build("release", "-DPACKNET_TESTS=OFF", "-DPACKNET_BENCHMARKS=ON")
    except CannotBuild as reason:
        raise SystemExit(f"the C++ runtime cannot be built here: {reason}") from None
    print(describe_machine())
    with tempfile.TemporaryDirectory(dir=options.dir) as temporary:
        path = Path(temporary) / "vgg16.pack"
        make(path)
        program = folder / "bench" / "packnet-bench-materialise"
        measured = json.loads(subprocess.run([program, path], check=True, capture_output=True, text=True).stdout)
        python = python_decode(path)
    scalar = measured["scalar_pass"]
    print(f"scalar pass                  {scalar:6.3f} s   {measured['threads']} threads for what follows")
    contestants = {"bank": "from the bank", "deltas": "from the deltas", "deltas_portable": "the same, portable"}
    for name, what in contestants.items():
        for suffix, threads in (("", ""), ("_one_thread", ", one thread")):
            seconds = measured[name + suffix]
            goal = "   (goal: at most 3)" if not suffix else ""
            print(f"{what + threads:28} {seconds:6.3f} s   {seconds / scalar:5.2f} x the scalar pass{goal}")
    ratio = python / measured["deltas_one_thread"]
    print(f"Python, from the deltas      {python:6.3f} s   {ratio:5.2f} x C++ on one thread")
    print(f"C++: open, hash, check all   {measured['open_and_hash']:6.3f} s")
    print(f"the same, portable           {measured['open_and_hash_portable']:6.3f} s   (goal: at most 0.9)")


if __name__ == "__main__":
    main()
