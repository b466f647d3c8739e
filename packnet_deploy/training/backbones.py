"""Networks by name, filled with weights: torchvision's convolutional classifiers, and the quickstart's own.

Which layers of a network are packable is parts.py's business, what ``--weights`` can name pretrained.py's.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack import InputSpec
from packnet_deploy.training.networks import ArchInfo, near
from packnet_deploy.training.parts import packable_weights
from packnet_deploy.training.pretrained import preprocessing, read_weights, weights_names

QUICKSTART = "quickstart"
IMAGENET_CLASSES = 1000
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
# Transformers; most of them learn in bare parameters too (position embeddings, fused attention weights).
_NOT_CONVOLUTIONAL = ("vit_", "swin", "maxvit")


def archs() -> list[str]:
    """The names ``build`` knows; each of these networks can be packed."""
    return [QUICKSTART, *(name for name in _torchvision() if not name.startswith(_NOT_CONVOLUTIONAL))]


def arch_table() -> list[ArchInfo]:
    """All networks that ``build`` knows, without memory for a single weight; takes seconds. Listed: networks.py."""
    table = []
    for arch in archs():
        with Weightless():
            module, head = build(arch, IMAGENET_CLASSES)
        packable = sum(weight.numel() for weight in packable_weights(module, head).values())
        size = input_spec(arch, None).shape[1]
        table.append(ArchInfo(arch, packable, head, size, () if arch == QUICKSTART else weights_names(arch)))
    return table


def build(arch: str, classes: int) -> tuple[nn.Module, str]:
    """A randomly initialised network with ``classes`` outputs, and its head's module name.

    Raises:
        UsageError: the name is not known, and suggests near ones; or the network cannot be packed.
    """
    if arch == QUICKSTART:
        return quickstart_network(classes), "head"
    expect_arch(arch)
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if arch in _WITH_AUXILIARY_HEADS:
        options |= {"aux_logits": False, "init_weights": True}
    module: nn.Module = torchvision.models.get_model(arch, **options)
    return module, head_name(module)


def expect_arch(arch: str) -> None:
    """Raises UsageError unless ``build`` knows the name; as that does."""
    if arch not in archs():
        _refuse(arch)


def head_name(module: nn.Module) -> str:
    """The last linear or convolution module: the head of every torchvision classifier.

    Raises:
        UsageError: there is none.
    """
    names: list[str] = [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not names:
        raise UsageError("the network has no linear or convolution layer that could be its head")
    return names[-1]


def input_spec(arch: str, image_size: int | None, weights: str = "none") -> InputSpec:
    """The input a network is trained on: what its ``weights`` expect, but with the paper's resize ratio.

    Args:
        image_size: another side than theirs, pixels.

    Source of the ratio: resize to 256, crop 224 (paper, section 4).
    """
    if arch == QUICKSTART:
        size = image_size or 32
        return InputSpec((3, size, size), (0.5,) * 3, (0.25,) * 3, resize=round(size * 36 / 32))
    expected = preprocessing(arch, weights)
    size = image_size or expected.size
    return InputSpec((3, size, size), expected.mean, expected.std, resize=round(size * 256 / 224))


def imagenet_class_names() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of pretrained networks' outputs."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


class Start(NamedTuple):
    """A network to begin with.

    Attributes:
        head_is_trained: False if its weights came without a head.
        untrained: the backbone's tensors that its weights have no values for; they are random.
    """

    module: nn.Module
    head: str
    head_is_trained: bool
    untrained: tuple[str, ...] = ()


def build_from(arch: str, weights: str) -> Start:
    """A network filled with ``weights``: ``none``, one of torchvision's names (pretrained.py), or a file.

    The network is as wide as the weights' head; the head of a file without one keeps random values.

    Raises:
        UsageError: not a network's name; neither a name of weights nor a file.
        EnvironmentFault: the weights cannot be had.
        ArtefactError: the file does not fit the network; names the first differences.
    """
    expect_arch(arch)
    if weights == "none":
        return Start(*build(arch, IMAGENET_CLASSES), head_is_trained=False)
    state = read_weights(arch, weights)
    with Weightless():
        _, head = build(arch, IMAGENET_CLASSES)
    head_weight = state.get(f"{head}.weight")
    width = len(head_weight) if head_weight is not None and head_weight.ndim else IMAGENET_CLASSES
    module, head = build(arch, width)
    own = module.state_dict()
    void = {name for name in own.keys() & state.keys() if bool(state[name].isnan().all())}
    fits = {n: value for n, value in state.items() if n in own and n not in void and own[n].shape == value.shape}
    optional = {name for name in own if name.startswith(f"{head}.") or name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - fits.keys() - optional - void)
    unknown = sorted(name for name in state.keys() - own.keys() if not name.startswith(("AuxLogits", "aux")))
    if missing or unknown:
        raise ArtefactError(
            f"{weights}: not {arch}'s weights: {len(missing)} tensors missing or of another shape "
            f"({', '.join(missing[:3]) or '-'}), {len(unknown)} unknown ({', '.join(unknown[:3]) or '-'})"
        )
    with torch.no_grad():
        for name, value in fits.items():  # MNASNet's load_state_dict wants more than tensors
            own[name].copy_(value)
    return Start(module, head, f"{head}.weight" in fits, tuple(sorted(void - optional)))


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


def _torchvision() -> list[str]:
    return list(torchvision.models.list_models(torchvision.models))


class Weightless(TorchFunctionMode):
    """Modules built inside get weights without values or memory, on PyTorch's meta device.

    ``torch.device("meta")`` would also send the tensors there that RegNet computes its widths with, and would take
    twice the time to initialise nothing.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, target = getattr(func, "__name__", ""), args[0] if args else kwargs.get("tensor")
        if name.endswith("_") and not name.endswith("__") and isinstance(target, Tensor) and target.is_meta:
            return target  # normal_() and its like: nothing to fill
        if func is torch.empty:  # what layers make their weights with
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)


def _refuse(arch: str) -> NoReturn:
    """Say why ``build`` does not know a name."""
    if arch not in _torchvision():
        raise UsageError(
            f"--arch {arch}: expected a network that packnet train --list-archs lists, got another name; "
            f"did you mean {' or '.join(near(arch))}?"
        )
    with Weightless():
        module: nn.Module = torchvision.models.get_model(arch, weights=None)
    try:
        packable_weights(module, head_name(module))
    except UsageError as error:
        raise UsageError(f"--arch {arch}: {error}") from error
    raise UsageError(f"--arch {arch}: not a convolutional network; pack it from Python: PackedNetwork(module, ...)")
