"""How long a user waits: `packnet --help`, exporting a ResNet-50 task, and writing VGG-16 against a raw write.

    python tests/benchmarks/start_and_export.py     (needs 3 GB of disk and 4 GB of memory)

Whole processes, best of several. The VGG-16 file is written and synced by the exporter and as raw bytes in turn, in
one run, so that both meet the same disk.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torchvision

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.export.bind import bind_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.write import model_buffers, write_buffers
from packnet_deploy.pack import Backbone, InputSpec, Pack, create_pack
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.trace import trace_skeleton

SPEC = InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256)


def pack_of(arch: str, head: str, path: Path) -> Pack:
    """A pack with one task, 1000 classes, random weights, pruned by half."""
    network = PackedNetwork(torchvision.models.get_model(arch, weights=None), head, SPEC)
    network.begin("task", [str(i) for i in range(1000)])
    network.prune(0.5)
    network.freeze()
    graph = trace_skeleton(network.module, head, SPEC).SerializeToString(deterministic=True)
    return create_pack(path, Backbone(arch, head), SPEC, graph, network.packable, network.new_task())


def process(*arguments: str) -> float:
    """Seconds that a whole ``packnet`` process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "packnet_deploy", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def write_raw(buffers: list[memoryview], path: Path) -> float:
    """Seconds to write and sync the same bytes with nothing else to do."""
    start = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for buffer in buffers:
            file.write(buffer)
        os.fsync(file.fileno())
    return time.perf_counter() - start


def main() -> None:
    print(describe_machine())
    print(f"packnet --help                {min(process('--help') for _ in range(10)):6.2f} s   (goal: at most 0.25)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack_of("resnet50", "fc", folder / "resnet50.pack")
        arguments = ("export", "--pack", str(folder / "resnet50.pack"), "--task", "task", "-o", str(folder / "r.onnx"))
        print(f"export a ResNet-50 task       {min(process(*arguments) for _ in range(5)):6.2f} s   (goal: at most 2)")

        vgg = pack_of("vgg16", "classifier.6", folder / "vgg16.pack")
        ours, raw = [], []
        for _ in range(4):
            bound = bind_task(vgg, "task", vgg.load_task("task"), ExportOptions().target(vgg), "dense")
            start = time.perf_counter()
            write_buffers(folder / "v.onnx", model_buffers(bound.model, bound.tensors))
            ours.append(time.perf_counter() - start)
            whole = memoryview((folder / "v.onnx").read_bytes())
            raw.append(write_raw([whole[i : i + (1 << 24)] for i in range(0, len(whole), 1 << 24)], folder / "raw"))
            (folder / "raw").unlink()
        size = (folder / "v.onnx").stat().st_size
        ours_s, raw_s = statistics.median(ours[1:]), statistics.median(raw[1:])  # the first of each warms the disk up
        print(f"serialise VGG-16, {size / 1e6:.0f} MB      {ours_s:6.2f} s")
        print(f"raw write and sync of it      {raw_s:6.2f} s")
        print(f"ratio                         {ours_s / raw_s:6.2f}     (goal: at most 2.0)")
        arguments = ("export", "--pack", str(folder / "vgg16.pack"), "--task", "task", "-o", str(folder / "v.onnx"))
        print(f"export the VGG-16 task, whole {min(process(*arguments) for _ in range(2)):6.2f} s")


if __name__ == "__main__":
    main()
