"""From what is found to what can be done: every gap says what would fix it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packnet_deploy.doctor.abilities import Findings, abilities
from packnet_deploy.doctor.installed import COMMANDS, Package
from packnet_deploy.doctor.probes import PROBES
from packnet_deploy.trt.sidecar import Gpu

H200 = Gpu("H200", "9.0", "13.0", 1 << 37)
RTX = Gpu("RTX", "8.9", "13.0", 1 << 34)
FOUND = {
    "onnxruntime": {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda": True},
    "torch": {"cuda": "13.0", "gpu": True},
    "tensorrt-rtx": {"compute_capabilities": ["8.6", "8.9"]},
    "tensorrt": {"compute_capabilities": []},
}


def everything(gpu: Gpu | None = RTX, **changes: Package) -> Findings:
    packages = {name: Package(name, "1.0", True, "", FOUND.get(name, {})) for name in PROBES}
    packages |= {package.name: package for package in changes.values()}
    no_gpu = "" if gpu else "no NVIDIA driver (libcuda) is installed"
    return Findings(packages, gpu, no_gpu, dict.fromkeys(COMMANDS, "1.0"))


def impossible(found: Findings) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(a.what, a.with_what): tuple(gap.fix for gap in a.gaps) for a in abilities(found) if not a.possible}


def test_with_everything_there_is_no_gap() -> None:
    assert impossible(everything()) == {}


def test_without_a_gpu_only_what_needs_none_is_left() -> None:
    lost = impossible(everything(None))
    assert ("build plans: none, bind, selector", "tensorrt-rtx") not in lost
    assert ("export, verify", "ONNX Runtime, CPU") not in lost
    assert {what for what, with_what in lost if with_what == "tensorrt-rtx"} == {
        "build plans: refit",
        "run plans: none, selector",
        "run plans: refit, bind",
    }
    assert ("build plans: none, bind, selector", "tensorrt") in lost
    assert all("install NVIDIA's driver" in " ".join(fixes) for fixes in lost.values())


def test_a_gpu_outside_tensorrt_rtxs_list() -> None:
    lost = impossible(everything(H200))
    assert {with_what for _, with_what in lost} == {"tensorrt-rtx"}
    assert set(lost.values()) == {("pip install 'packnet-deploy[tensorrt]'",)}


@pytest.mark.parametrize(
    ("package", "lost", "fix"),
    [
        (Package("tensorrt"), "build plans: refit", "pip install 'packnet-deploy[tensorrt]'"),
        (Package("torch"), "train", "pip install 'packnet-deploy[train]'"),
        (Package("nvrtc"), "run plans: refit, bind", "pip install 'packnet-deploy[rtx]'"),
        (Package("matplotlib"), "draw plots", "pip install 'packnet-deploy[report]'"),
        (Package("onnx"), "export, verify", "pip install 'packnet-deploy'"),
        (
            Package("onnxruntime", "1.0", True, "it has no symbol x"),
            "export, verify",
            "pip install --force-reinstall onnxruntime-gpu",
        ),
        (
            Package("onnxruntime", "1.0", True, "", {"providers": ["CPUExecutionProvider"], "cuda": ""}),
            "run exports",
            "pip uninstall onnxruntime && pip install --force-reinstall onnxruntime-gpu",
        ),
    ],
)
def test_what_is_missing_or_broken_has_a_command(package: Package, lost: str, fix: str) -> None:
    gaps = impossible(everything(changed=package))
    assert any(what == lost and fix in fixes for (what, _), fixes in gaps.items()), gaps
    assert len(gaps) < len(abilities(everything()))


def test_tools() -> None:
    found = everything()
    lost = impossible(replace(found, tools={**found.tools, "cmake": "", "NVIDIA driver": ""}))
    assert lost == {("build the C++ runtime", "cmake"): ("pip install cmake",)}
