"""Sizes as the paper counts them, and the statistics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from packnet_deploy.experiments.analyses import summary
from packnet_deploy.experiments.paper import paper_bytes, paper_count
from packnet_deploy.experiments.results import file_bytes
from packnet_deploy.pack import Pack

CONVOLUTIONS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)]
CONVOLUTIONS += [(512, 512)] * 5
VGG16 = sum(9 * i * o for i, o in CONVOLUTIONS) + 25088 * 4096 + 4096 * 4096  # weights
VGG16_BIASES = sum(o for _, o in CONVOLUTIONS) + 2 * 4096


def vgg16(*classes: int, masked: bool = False) -> float:
    """Megabytes of a VGG-16 with a head for each task."""
    heads = sum(4097 * n for n in classes)
    owners = len(classes) if masked else 1
    return paper_count(packable=VGG16, dense=VGG16_BIASES + heads, masked=VGG16, owners=owners) / 1e6


def test_the_papers_sizes_come_out_of_its_way_of_counting() -> None:
    """Its tables 2 and 3: ImageNet, CUBS, Cars, Flowers; ImageNet and Places365."""
    four = (1000, 200, 196, 102)
    assert round(vgg16(*four)) == 562
    assert round(vgg16(*four, masked=True)) == 595
    assert round(sum(vgg16(n) for n in four)) == 2173
    assert round(vgg16(1000, 365)) == 559
    assert round(vgg16(1000, 365, masked=True)) == 576
    assert math.floor(vgg16(1000) + vgg16(365)) == 1096


def test_a_packs_sizes(golden: Path) -> None:
    pack = Pack.open(golden)
    assert file_bytes(pack) == sum(path.stat().st_size for path in golden.rglob("*") if path.is_file())
    tensors = pack.load_task(pack.tasks[0].name).tensors
    heads = sum(
        value.size
        for task in pack.tasks
        for name, value in pack.load_task(task.name).tensors.items()
        if name.startswith("head.")
    )
    with pack.opened() as opened:
        own = sum(e.size for file in opened.chain.files for name, e in file.entries.items() if name.startswith("own/"))
    backbone = sum(value.size for name, value in tensors.items() if not name.startswith("head."))
    assert len(pack.tasks) == 3
    bits = pack.manifest.weights * math.log2(3)
    assert paper_bytes(pack) == pytest.approx(4 * (backbone + heads + own) + bits / 8)
    rows = sum(param.shape[0] for param in pack.packable)
    fewer = (pack.manifest.weights - rows) * math.log2(3) / 8
    assert paper_bytes(pack, by_filter=True) == pytest.approx(paper_bytes(pack) - fewer)


def test_the_spread_is_the_sample_standard_deviation() -> None:
    found = summary([1.0, 2.0, 4.0])
    assert found is not None
    assert (found.n, found.mean) == (3, pytest.approx(7 / 3))
    assert found.spread == pytest.approx(math.sqrt(7 / 3))
    one = summary([5.0])
    assert one is not None
    assert (one.n, one.mean, one.spread) == (1, 5.0, None)
    assert summary([]) is None
