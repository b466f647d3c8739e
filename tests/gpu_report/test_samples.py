"""The packs that the GPU report measures are real packs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="drawing networks needs PyTorch (extra: train)")

from packnet_deploy.export.api import export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.gpu_report.samples import breaking_packs, sample_pack
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.options import BuildOptions


@pytest.mark.slow
def test_samples(tmp_path: Path) -> None:
    pack = sample_pack(tmp_path / "p.pack", "squeezenet1_1", 64)
    assert len(pack.tasks) == 3
    assert all(check.passes for check in verify_pack(pack))
    probe = pack.load_task("three").probe_logits
    assert np.isfinite(probe).all()
    assert 0.01 < np.abs(probe).max() < 1e4


@pytest.mark.slow
def test_the_network_that_engines_are_asked_about_fits_half_precision(tmp_path: Path) -> None:
    """Every task's activations and logits: or parity in fp16 would fail on any GPU."""
    pack = sample_pack(tmp_path / "p.pack", "resnet50", 64)
    assert sample_pack(tmp_path / "p.pack", "resnet50", 64).tasks == pack.tasks  # taken as it is
    for task in pack.tasks:
        export_task(pack, task.name, tmp_path / f"{task.name}.onnx", ExportOptions(precision="fp16"))


@pytest.mark.slow
def test_the_breaking_pack_breaks(tmp_path: Path) -> None:
    before, grown = breaking_packs(tmp_path, "squeezenet1_1", 64)
    eligible = [sum(l.eligible for l in engine_graph(p, BuildOptions()).sparsity) for p in (before, grown)]  # noqa: E741
    assert eligible[0] > 0
    assert eligible[1] < eligible[0]
    assert all(check.passes for check in verify_pack(grown))
