"""A VGG-16 pack with four tasks pruned 0.75 each: its size, and how fast and lean its last task materialises.

    python tests/benchmarks/pack_vgg16.py [--dir DIR]     (needs 2 GB of disk and 3 GB of memory)

Every figure is taken in a fresh process. "Fill" is a first write to as many bytes as the float32 model has, the
least any reader must do; times are best of three.
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

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.pack import (
    Backbone,
    InputSpec,
    NewTask,
    Pack,
    ParamSpec,
    append_task,
    bank_sha256,
    create_pack,
)

CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's features.N
HEADS = (("imagenet", 1000), ("cubs", 200), ("cars", 196), ("flowers", 102))


def vgg16() -> tuple[ParamSpec, ...]:
    """VGG-16's packable parameters, the head aside."""
    convs = [
        ParamSpec(f"features.{place}.weight", (out, inp, 3, 3))
        for place, inp, out in zip(PLACES, CHANNELS, CHANNELS[1:], strict=False)
    ]
    return (*convs, ParamSpec("classifier.0.weight", (4096, 25088)), ParamSpec("classifier.3.weight", (4096, 4096)))


def make(path: Path) -> None:
    """Four tasks, each taking a random quarter of what is free: the masks a magnitude criterion would give."""
    rng = np.random.default_rng(0)
    params = vgg16()
    spec = InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256)
    pack = create_pack(path, Backbone("vgg16", "classifier.6"), spec, b"no graph is needed here", params)
    owners = {p.name: np.zeros(p.shape, np.uint8) for p in params}
    weights = {p.name: np.zeros(p.shape, np.float32) for p in params}
    shared = {p.name.replace("weight", "bias"): np.zeros(p.shape[0], np.float32) for p in params}
    for index, (name, classes) in enumerate(HEADS, start=1):
        for param in params:
            owner, weight = owners[param.name].reshape(-1), weights[param.name].reshape(-1)
            free = np.flatnonzero(owner == 0)
            mine = free[rng.random(len(free), dtype=np.float32) < 0.25]
            owner[mine] = index
            weight[mine] = rng.standard_normal(len(mine), dtype=np.float32)
        head = {"weight": np.zeros((classes, 4096), np.float32), "bias": np.zeros(classes, np.float32)}
        task = NewTask(
            name,
            tuple(map(str, range(classes))),
            owners,
            weights,
            head,
            np.zeros((4, classes), np.float32),
            bank_sha256(params, weights, owners, shared, index - 1),
            shared=shared if index == 1 else {},
        )
        pack = append_task(pack, task)


def peak_bytes() -> int:
    """This process's peak resident memory (Linux; getrusage's figure would include the parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def measure(path: Path, what: str) -> float:
    """One figure, in this (fresh) process."""
    if what == "fill":
        start = time.perf_counter()
        held = [np.full(param.shape, 0, np.float32) for param in vgg16()]
        return (time.perf_counter() - start) * bool(held)
    if what == "open":
        start = time.perf_counter()
        names = [task.name for task in Pack.open(path).tasks]
        assert len(names) == len(HEADS)
        return time.perf_counter() - start
    before = peak_bytes()
    start = time.perf_counter()
    pack = Pack.open(path)
    tensors = pack.load_task(pack.tasks[-1].name).tensors
    seconds = time.perf_counter() - start
    if what == "materialise":
        return seconds
    return (peak_bytes() - before) / sum(tensor.nbytes for tensor in tensors.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where to put the pack (default: a temporary folder)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.dir, options.measure)))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        path = Path(folder) / "vgg16.pack"
        make(path)

        def best(what: str) -> float:
            command = [sys.executable, __file__, "--dir", str(path), "--measure", what]
            return min(json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3))

        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        fill, materialise = best("fill"), best("materialise")
        print(f"pack on disk               {size / 1e6:8.1f} MB   (goal: at most 440)")
        print(f"open and list tasks        {best('open') * 1e3:8.2f} ms   (goal: at most 20)")
        print(f"cold fill of the model     {fill:8.2f} s")
        print(
            f"materialise the last task  {materialise:8.2f} s    (goal: at most 4), {materialise / fill:.1f} x the fill"
        )
        print(f"peak memory ÷ fp32 model   {best('memory'):8.2f}      (goal: at most 1.6)")


if __name__ == "__main__":
    main()
