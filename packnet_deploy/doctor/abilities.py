"""From what was found on a machine to what can be done there, and what would fix what cannot. Finds nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packnet_deploy.doctor.installed import Package
from packnet_deploy.trt.flavour import EXTRAS, FLAVOURS
from packnet_deploy.trt.sidecar import Gpu

EXTRA_OF = {
    "pillow": "images",
    "torch": "train",
    "torchvision": "train",
    "matplotlib": "report",
    "cuda-python": "rtx",
    "nvrtc": "rtx",
    **EXTRAS,
}
AGAIN = {  # what to install anew where a package is there and does not work
    "torch": "torch torchvision",
    "torchvision": "torch torchvision",
    "onnxruntime": "onnxruntime-gpu",
    "cuda-python": "'cuda-python[all]'",
    "nvrtc": "'cuda-python[all]'",
}
DRIVER = "install NVIDIA's driver: https://www.nvidia.com/drivers (Debian, Ubuntu: sudo apt-get install nvidia-driver)"
A_GPU = "no command brings one: use a machine with an NVIDIA GPU"


@dataclass(frozen=True)
class Gap:
    """Something that is missing here.

    Attributes:
        fix: the command that fixes it, or what else has to be done.
    """

    what: str
    fix: str


@dataclass(frozen=True)
class Ability:
    """Something that packnet can do, given what it needs.

    Attributes:
        gaps: what stands in the way; nothing where it can be done.
    """

    what: str
    with_what: str
    gaps: tuple[Gap, ...]

    @property
    def possible(self) -> bool:
        return not self.gaps


@dataclass(frozen=True)
class Findings:
    """What was found on a machine.

    Attributes:
        no_gpu: why there is no GPU; "" where there is one.
        tools: by name (``installed.COMMANDS``), what each says of itself; "" where it is not there.
    """

    packages: Mapping[str, Package]
    gpu: Gpu | None
    no_gpu: str
    tools: Mapping[str, str]


def abilities(found: Findings) -> tuple[Ability, ...]:
    """All there is to do with packnet, in the order in which it is done."""
    onnxruntime, torch = _package(found, "onnxruntime"), _package(found, "torch")
    training = torch + _package(found, "torchvision") + _package(found, "pillow")
    gpu = _gpu(found)
    exporting = _package(found, "onnx") + onnxruntime
    rows = [
        Ability("train", "PyTorch, CPU", training),
        Ability("train", "PyTorch, CUDA", training + gpu + _torch_cuda(found)),
        Ability("export, verify", "ONNX Runtime, CPU", exporting),
        Ability("run exports", "ONNX Runtime, CUDA", exporting + gpu + _onnxruntime_cuda(found)),
    ]
    for name in FLAVOURS:
        library = _package(found, name)
        here = _capability(found, name)
        on_gpu = library + gpu + here
        without = library if name == "tensorrt-rtx" else on_gpu
        running = library + _package(found, "cuda-python") + gpu + here
        rows += [
            Ability("build plans: none, bind, selector", name, without),
            Ability("build plans: refit", name, on_gpu),
            Ability("run plans: none, selector", name, running),
            Ability("run plans: refit, bind", name, running + _package(found, "nvrtc")),
        ]
    rows += [
        Ability("build the C++ runtime", "cmake", _tool(found, "cmake") + _tool(found, "C++ compiler")),
        Ability("draw plots", "matplotlib", _package(found, "matplotlib")),
    ]
    return tuple(Ability(row.what, row.with_what, tuple(dict.fromkeys(row.gaps))) for row in rows)


def _package(found: Findings, name: str) -> tuple[Gap, ...]:
    package = found.packages[name]
    if package.works:
        return ()
    if not package.installed:
        extra = f"[{EXTRA_OF[name]}]" if name in EXTRA_OF else ""
        return (Gap(f"{name} is not installed", f"pip install 'packnet-deploy{extra}'"),)
    return (
        Gap(
            f"{name} is installed and does not work: {package.problem}",
            f"pip install --force-reinstall {AGAIN.get(name, name)}",
        ),
    )


def _gpu(found: Findings) -> tuple[Gap, ...]:
    if found.gpu is not None:
        return ()
    if not found.packages["cuda-python"].works:
        return _package(found, "cuda-python")  # so that nobody has looked yet
    return (Gap(f"no GPU: {found.no_gpu}", DRIVER if "libcuda" in found.no_gpu else A_GPU),)


def _torch_cuda(found: Findings) -> tuple[Gap, ...]:
    torch = found.packages["torch"]
    if found.gpu is None or not torch.works or torch.found["gpu"]:
        return ()
    what = f"is made for CUDA {torch.found['cuda']}" if torch.found["cuda"] else "is a build for the CPU"
    return (
        Gap(
            f"torch {torch.version} {what}, and does not see the GPU, whose driver takes CUDA up to {found.gpu.driver}",
            "pip install --force-reinstall torch torchvision, from the index for your driver: https://pytorch.org",
        ),
    )


def _onnxruntime_cuda(found: Findings) -> tuple[Gap, ...]:
    runtime = found.packages["onnxruntime"]
    if found.gpu is None or not runtime.works or runtime.found["cuda"] is True:
        return ()
    if "CUDAExecutionProvider" not in runtime.found["providers"]:
        fix = "pip uninstall onnxruntime && pip install --force-reinstall onnxruntime-gpu"
        return (Gap("onnxruntime is a build without CUDA", fix),)
    return (Gap("ONNX Runtime cannot start CUDA: libraries are missing", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),)


def _capability(found: Findings, name: str) -> tuple[Gap, ...]:
    """Whether the flavour builds for the GPU here, as far as it says for which it does."""
    offered = found.packages[name].found.get("compute_capabilities") or ()
    if found.gpu is None or not offered or found.gpu.compute_capability in offered:
        return ()
    return (
        Gap(
            f"{name} builds for compute capabilities {', '.join(offered)}, {found.gpu.name} has "
            f"{found.gpu.compute_capability}",
            "pip install 'packnet-deploy[tensorrt]'",
        ),
    )


def _tool(found: Findings, name: str) -> tuple[Gap, ...]:
    if found.tools[name]:
        return ()
    return (Gap(f"no {name}", {"cmake": "pip install cmake", "C++ compiler": "sudo apt-get install g++"}[name]),)
