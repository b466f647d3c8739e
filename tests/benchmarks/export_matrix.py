"""Networks x layouts x precisions, three tasks each: size, difference from PyTorch, CPU latency and memory.

    python tests/benchmarks/export_matrix.py [NETWORK ...]      (VGG needs 12 GB of memory and 8 GB of disk)

Prints the table of docs/exports.md. Random weights; the tasks own a quarter, then a third, then half of what is free,
so that they run on 25, 50 and 75 % of the weights. Every difference is the worst of the three tasks on the probe batch,
from PyTorch's own logits, as a share of their scale. Latency and memory come from a fresh process each, in which all
three tasks are held and asked in turn, one image at a time, on one thread.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

from export_networks import pack_of
from torch_networks import torchvision_network

from packnet_deploy.bench.job import jobs_of_exports
from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.run import run_job
from packnet_deploy.bench.ways import ways_of
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.report import ExportReport
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack

NETWORKS = {
    "squeezenet1_1": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "resnet50": "fc",
    "densenet121": "classifier",
    "vgg16": "classifier.6",
    "vgg16_bn": "classifier.6",
}
TASKS = {"first": 1 / 4, "second": 1 / 3, "third": 1 / 2}
CLASSES = {"first": 1000, "second": 200, "third": 102}
WAYS = {"dense": "together", "sparse": "together", "shared": "shared", "selector": "selector"}
MEASURE = BenchOptions(batch_sizes=(1,), seconds=2.0, threads=1, device="cpu")


def export(pack: Pack, folder: Path, options: ExportOptions) -> list[ExportReport]:
    if options.layout == "selector":
        return [export_selector(pack, folder / "all.onnx", options)]
    if options.layout == "shared":
        return [export_shared(pack, list(TASKS), folder / "shared", options)]
    return [export_task(pack, task, folder / f"{task}.onnx", options) for task in TASKS]


def row(network: str, reports: list[ExportReport]) -> str:
    options = reports[0].options
    worst = max(d.max_difference / d.scale for report in reports for d in report.differences.values())
    size = sum(report.bytes for report in reports)
    latency = memory = "-"
    if options.precision != "bf16":  # which ONNX Runtime's CPU cannot run
        served = {task: report.files[0] for report in reports for task in report.tasks}
        if options.layout == "shared":
            served = {path.stem: path for path in reports[0].files if path.suffix == ".onnx"}
        (job,) = jobs_of_exports({}, MEASURE, {WAYS[options.layout]: served})
        (way,) = ways_of([run_job(job)])
        latency, memory = f"{way.p50_ms:.1f}", f"{(way.memory_bytes or 0) / 1e6:,.0f}"
    cells = (network, options.layout, options.precision, f"{size / 1e6:,.1f}", f"{worst:.1e}", latency, memory)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    print(describe_machine(), "\n")
    print("| network | layout | precision | 3 tasks, MB | difference | p50, ms | memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            network = torchvision_network(name, NETWORKS[name], 224)
            pack = pack_of(Path(folder) / "some.pack", network, TASKS, classes=CLASSES)
            del network
            gc.collect()
            for layout in WAYS:
                for precision in ("fp32", "fp16", "bf16"):
                    if (layout, precision) != ("sparse", "bf16"):  # refused
                        with tempfile.TemporaryDirectory() as out:
                            reports = export(pack, Path(out), ExportOptions(layout=layout, precision=precision))
                            print(row(name, reports), flush=True)


if __name__ == "__main__":
    main()
