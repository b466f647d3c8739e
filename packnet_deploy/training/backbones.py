"""Networks by name, and weights to start from: torchvision's convolutional classifiers, and the quickstart's own.

Which layers of a network are packable is network.py's business; here it is built, filled, and its head found.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack import InputSpec

QUICKSTART = "quickstart"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_NOT_CONVOLUTIONAL = ("vit_", "swin", "maxvit")


def archs() -> list[str]:
    """The names ``build`` knows."""
    names = torchvision.models.list_models(torchvision.models)
    return [QUICKSTART, *(name for name in names if not name.startswith(_NOT_CONVOLUTIONAL))]


def build(arch: str, classes: int) -> tuple[nn.Module, str]:
    """A randomly initialised network with ``classes`` outputs, and its head's module name.

    Raises:
        UsageError: the name is not known; suggests near ones.
    """
    if arch == QUICKSTART:
        return quickstart_network(classes), "head"
    if arch not in archs():
        import difflib

        near = ", ".join(difflib.get_close_matches(arch, archs(), n=4)) or "resnet18, squeezenet1_1, vgg16"
        raise UsageError(f"--arch {arch!r}: not a network known here; did you mean one of: {near}")
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if arch in _WITH_AUXILIARY_HEADS:
        options |= {"aux_logits": False, "init_weights": True}
    module: nn.Module = torchvision.models.get_model(arch, **options)
    return module, head_name(module)


def head_name(module: nn.Module) -> str:
    """The last linear or convolution module: the head of every torchvision classifier.

    Raises:
        UsageError: there is none.
    """
    names: list[str] = [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not names:
        raise UsageError("the network has no linear or convolution layer that could be its head")
    return names[-1]


def input_spec(arch: str, image_size: int | None) -> InputSpec:
    """The input a network is trained on: its own size unless ``image_size`` is given, the paper's resize ratio.

    Source of the ratio: resize to 256, crop 224 (paper, section 4).
    """
    if arch == QUICKSTART:
        size = image_size or 32
        return InputSpec((3, size, size), (0.5,) * 3, (0.25,) * 3, resize=round(size * 36 / 32))
    size = image_size or (299 if arch == "inception_v3" else 224)
    # Torchvision's weights of these two came from TensorFlow; there the network rescales its input to this.
    mean, std = ((0.5,) * 3, (0.5,) * 3) if arch in _WITH_AUXILIARY_HEADS else (IMAGENET_MEAN, IMAGENET_STD)
    return InputSpec((3, size, size), mean, std, resize=round(size * 256 / 224))


def imagenet_class_names() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of pretrained networks' outputs."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


class Start(NamedTuple):
    """A network to begin with; ``head_is_trained`` unless its weights came without one."""

    module: nn.Module
    head: str
    head_is_trained: bool


def build_from(arch: str, weights: str) -> Start:
    """A network filled with ``weights``: ``none``, ``imagenet`` (torchvision's default ones), or a file.

    The network is as wide as the weights' head; the head of a file without one keeps random values.

    Raises:
        EnvironmentFault: the weights cannot be had.
        ArtefactError: the file does not fit the network; names the first differences.
    """
    if weights == "none":
        return Start(*build(arch, IMAGENET_CLASSES), head_is_trained=False)
    state = _download(arch) if weights == "imagenet" else read_state(Path(weights))
    _, head = build(arch, IMAGENET_CLASSES)
    head_weight = state.get(f"{head}.weight")
    width = len(head_weight) if head_weight is not None and head_weight.ndim else IMAGENET_CLASSES
    module, head = build(arch, width)
    own = module.state_dict()
    fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    optional = {name for name in own if name.startswith(f"{head}.") or name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - fits.keys() - optional)
    unknown = sorted(name for name in state.keys() - own.keys() if not name.startswith(("AuxLogits", "aux")))
    if missing or unknown:
        raise ArtefactError(
            f"{weights}: not {arch}'s weights: {len(missing)} tensors missing or of another shape "
            f"({', '.join(missing[:3]) or '-'}), {len(unknown)} unknown ({', '.join(unknown[:3]) or '-'})"
        )
    module.load_state_dict(fits, strict=False)
    return Start(module, head, head_is_trained=f"{head}.weight" in fits)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a ``.pth``/``.pt`` file (read as weights only, so nothing in it runs) or ``.safetensors``.

    Raises:
        EnvironmentFault: no such file.
        ArtefactError: it is not a state dict.
    """
    if not path.is_file():
        raise EnvironmentFault(f"--weights {path}: no such file; give a state-dict file, 'imagenet' or 'none'")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # PyTorch's message advises to run the file's code; never do
        raise ArtefactError(
            f"{path}: not a state-dict file (it holds more than plain tensors, or is damaged)"
        ) from error
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtefactError(f"{path}: not a state-dict file ({reason})") from error
    for key in ("state_dict", "model"):  # as training scripts wrap it
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ArtefactError(f"{path}: expected a state dict (names to tensors), got {type(state).__name__}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _download(arch: str) -> dict[str, Tensor]:
    if arch == QUICKSTART:
        raise UsageError(f"--weights imagenet: {QUICKSTART} has no pretrained weights; use --weights none")
    try:
        chosen = torchvision.models.get_model_weights(arch).DEFAULT
        return dict(chosen.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise EnvironmentFault(
            f"--weights imagenet: torchvision could not fetch {arch}'s weights ({error}); "
            "fetch them elsewhere and give the file, or use --weights none"
        ) from error


def quickstart_network(classes: int) -> nn.Module:
    """Six convolutions with BatchNorm for 32x32 images, 0.28 M packable weights: small enough for two CPU cores."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    widths = ((3, 16, 1), (16, 32, 2), (32, 64, 1), (64, 64, 2), (64, 128, 1), (128, 128, 2))
    features = nn.Sequential(*(layer for inputs, outputs, stride in widths for layer in block(inputs, outputs, stride)))
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("head", nn.Linear(128, classes))
    return network
