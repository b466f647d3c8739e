"""Weights to start from, and the input they were trained on: torchvision's by name, or a state-dict file.

A name means the same in every folder: ``imagenet`` and the names torchvision gives to a network's weights are always
those, and everything else is a file. A file that is called like one of them is given with its folder
(``./IMAGENET1K_V1``). Filling a network is backbones.py's business.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError, reason

IMAGENET = "imagenet"  # torchvision's default weights of a network
# Torchvision's weights of these two came from TensorFlow; there the network rescales its input to mean and std 0.5.
_FROM_TENSORFLOW = ("googlenet", "inception_v3")
# Torchvision's DenseNet files spell ``norm1`` as ``norm.1``, from a time when module names could hold dots.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class Preprocessing(NamedTuple):
    """What weights expect: square images of ``size`` pixels, normalised by ``mean`` and ``std``."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def weights_names(arch: str) -> tuple[str, ...]:
    """The names of torchvision's weights for ``arch``, the one that ``imagenet`` stands for first."""
    kinds = torchvision.models.get_model_weights(arch)
    return tuple(dict.fromkeys((kinds.DEFAULT.name, *(weights.name for weights in kinds))))


def preprocessing(arch: str, weights: str) -> Preprocessing:
    """As torchvision's own transforms of the named weights; those of the network's first ones for a file or none."""
    chosen = _published(arch, weights) or next(iter(torchvision.models.get_model_weights(arch)))
    transforms = chosen.transforms()
    mean, std = ((0.5,) * 3, (0.5,) * 3) if arch in _FROM_TENSORFLOW else (transforms.mean, transforms.std)
    return Preprocessing(transforms.crop_size[0], tuple(mean), tuple(std))


def read_weights(arch: str, weights: str) -> dict[str, Tensor]:
    """The tensors of ``weights``, under the names that ``arch``'s modules have.

    Torchvision's may lack some (VGG-16's IMAGENET1K_FEATURES all of its classifier's): these hold nothing but NaN.

    Raises:
        UsageError: neither a name of weights that ``arch`` has nor like the name of a file; lists those it has.
        EnvironmentFault: the file does not exist, or torchvision cannot fetch it.
        ArtefactError: the file is no state dict, or holds NaN.
    """
    published = _published(arch, weights)
    if published is None:
        expect_weights(arch, weights)
        state = read_state(Path(weights))
        if damaged := [name for name, value in state.items() if bool(value.isnan().any())]:
            raise ArtefactError(f"{weights}: expected numbers, got NaN in {', '.join(damaged[:3])}")
    else:
        state = _fetch(arch, published)
    return {_OLD_DENSENET_NAME.sub(r"\1\2", name): value for name, value in state.items()}


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a ``.pth``/``.pt`` file (read as weights only, so nothing in it runs) or ``.safetensors``.

    Raises:
        ArtefactError: it is not a state dict.
    """
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
        raise ArtefactError(f"{path}: not a state-dict file ({reason(error)})") from error
    for key in ("state_dict", "model"):  # as training scripts wrap it
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ArtefactError(f"{path}: expected a state dict (names to tensors), got {type(state).__name__}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _published(arch: str, weights: str) -> Any | None:
    """The member of torchvision's enum that ``weights`` names, with or without the enum's own name before it."""
    if arch not in torchvision.models.list_models(torchvision.models):
        return None
    kinds = torchvision.models.get_model_weights(arch)
    name = weights.removeprefix(f"{kinds.__name__}.")
    return kinds.DEFAULT if name == IMAGENET else kinds.__members__.get(name)


def expect_weights(arch: str, weights: str) -> None:
    """Refuse what names no weights that ``arch`` has, and no file that is there.

    Raises:
        UsageError: it does not look like a file: a misspelt name, or one of another network's weights.
        EnvironmentFault: no such file.
    """
    if _published(arch, weights) is not None:
        return
    path = Path(weights)
    like_a_name = path.name == weights and (not path.suffix or "_Weights." in weights)
    if like_a_name and not path.exists():
        own = arch in torchvision.models.list_models(torchvision.models)
        names = f"{arch} has {', '.join(weights_names(arch))}" if own else f"{arch} has no pretrained weights"
        raise UsageError(f"--weights {weights}: expected a state-dict file, 'none', or a name of weights; {names}")
    if not path.is_file():
        raise EnvironmentFault(f"--weights {path}: no such file; give a state-dict file, 'imagenet' or 'none'")


def _fetch(arch: str, published: Any) -> dict[str, Tensor]:
    try:
        return dict(published.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise EnvironmentFault(
            f"--weights {published.name}: torchvision could not fetch {arch}'s weights ({error}); "
            "fetch them elsewhere and give the file, or use --weights none"
        ) from error
