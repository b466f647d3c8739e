"""Well-known networks all the way: traced, packed, exported; golden operator counts, and torch's own logits."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from export_networks import pack_of
from torch_networks import torchvision_network

from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.report import ExportReport
from packnet_deploy.export.shared import export_shared
from packnet_deploy.runners.verify import verify_pack

slow = pytest.mark.slow

# Per network: head, image size, and the operators of the dense export.
GOLDEN = [
    pytest.param(
        "resnet18",
        "fc",
        64,
        {"Conv": 20, "Relu": 17, "Add": 8, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    ),
    pytest.param(
        "squeezenet1_1",
        "classifier.1",
        64,
        {"Conv": 26, "Relu": 26, "Concat": 8, "MaxPool": 3, "GlobalAveragePool": 1, "Flatten": 1},
    ),
    pytest.param(
        "resnet50",
        "fc",
        64,
        {"Conv": 53, "Relu": 49, "Add": 16, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
        marks=slow,
    ),
    pytest.param(
        "mobilenet_v2",
        "classifier.1",
        64,
        {"Conv": 52, "Clip": 35, "Add": 10, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
        marks=slow,
    ),
    pytest.param(
        "mobilenet_v3_small",
        "classifier.3",
        64,
        {
            "Conv": 52,
            "HardSwish": 19,
            "Relu": 14,
            "GlobalAveragePool": 10,
            "HardSigmoid": 9,
            "Mul": 9,
            "Add": 6,
            "Gemm": 2,
            "Flatten": 1,
        },
        marks=slow,
    ),
    pytest.param(
        "densenet121",
        "classifier",
        64,
        # Convolution comes after normalisation here: only those with normalisation right behind them fold.
        {
            "Conv": 120,
            "Relu": 121,
            "BatchNormalization": 62,
            "Concat": 58,
            "AveragePool": 3,
            "MaxPool": 1,
            "GlobalAveragePool": 1,
            "Flatten": 1,
            "Gemm": 1,
        },
        marks=slow,
    ),
    pytest.param(
        "vgg16_bn",
        "classifier.6",
        224,
        {"Conv": 13, "Relu": 15, "MaxPool": 5, "Gemm": 3, "Flatten": 1},
        marks=slow,
    ),
]


@pytest.mark.parametrize(("name", "head", "size", "operators"), GOLDEN)
def test_golden_operators_and_torchs_logits(
    name: str, head: str, size: int, operators: dict[str, int], tmp_path: Path
) -> None:
    network = torchvision_network(name, head, size, narrow=True)
    pack = pack_of(tmp_path / "net.pack", network, {"only": 0.8})
    report = export_task(pack, "only", tmp_path / "net.onnx")
    assert report.operators == operators
    assert report.difference is not None
    assert report.difference.max_difference <= 2e-5 * report.difference.scale
    assert [check.difference.passes for check in verify_pack(pack)] == [True]
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [value.name for value in graph.input] == ["images"]
    packable = {param.name for param in pack.packable}
    assert packable <= {tensor.name for tensor in graph.initializer}


@pytest.mark.parametrize(
    ("name", "head", "size"),
    [
        ("squeezenet1_1", "classifier.1", 64),
        pytest.param("mobilenet_v2", "classifier.1", 64, marks=slow),
        pytest.param("resnet50", "fc", 64, marks=slow),
        pytest.param("densenet121", "classifier", 64, marks=slow),
        pytest.param("vgg16", "classifier.6", 64, marks=slow),
        pytest.param("vgg16_bn", "classifier.6", 64, marks=slow),
    ],
)
def test_every_task_of_every_layout_gives_torchs_logits(name: str, head: str, size: int, tmp_path: Path) -> None:
    """Three tasks of other widths; docs/exports.md has the precisions and the times (export_matrix.py)."""
    network = torchvision_network(name, head, size, narrow=True)
    tasks = {"first": 0.3, "second": 0.5, "third": 1.0}
    pack = pack_of(tmp_path / "net.pack", network, tasks, classes={"second": 20, "third": 7})
    for options in (ExportOptions(), ExportOptions(layout="sparse")):
        for task in tasks:
            check(export_task(pack, task, tmp_path / "m.onnx", options))
    check(export_shared(pack, list(tasks), tmp_path / "shared", ExportOptions(layout="shared")))
    for engine in ("onnxruntime", "tensorrt"):
        check(export_selector(pack, tmp_path / "m.onnx", ExportOptions(layout="selector", engine=engine)))


def check(report: ExportReport) -> None:
    assert set(report.differences) == set(report.tasks)
    for difference in report.differences.values():
        assert difference.max_difference <= 2e-5 * difference.scale
