"""``packnet doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Packnet = Callable[..., Any]


def test_it_looks_and_never_fails(packnet: Packnet) -> None:
    shown = packnet("doctor")
    assert shown.code == 0, shown.err
    for text in ("onnxruntime", "What can be done here", "build plans: refit", "export, verify"):
        assert text in shown.out


def test_json_has_packages_and_abilities(packnet: Packnet) -> None:
    document = json.loads(packnet("doctor", "--json").out)
    assert document["packages"]["numpy"]["installed"]
    assert not document["packages"]["numpy"]["problem"]
    possible = {(a["what"], a["with_what"]): a["possible"] for a in document["abilities"]}
    assert possible["export, verify", "ONNX Runtime, CPU"]
    assert all(a["possible"] == (not a["gaps"]) for a in document["abilities"])


def test_the_gpu_report_needs_a_gpu(packnet: Packnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packnet_deploy.trt.gpu.find_gpu", lambda index=0: None)
    refused = packnet("gpu-report", tmp_path / "out")
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "needs an NVIDIA GPU" in refused.err
