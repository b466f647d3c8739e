"""Following a network's channels through additions, concatenations, depthwise convolutions and flattening.

This is torch-pruning's dependency graph (https://github.com/VainF/Torch-Pruning), which traces a network and, used
like this, changes nothing in it. What it does not know (channel shuffle, say) it takes for elementwise, so its answer
is put to the proof: with random weights, half the channels must not notice the other half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from packnet_deploy.errors import UsageError, missing_package
from packnet_deploy.pack import InputSpec, probe_batch
from packnet_deploy.training.inference import evaluating
from packnet_deploy.training.methods.channels import FROM_IMAGES, Channels, Layer, over, with_images
from packnet_deploy.training.parts import find_head

TOLERANCE = 1e-5  # of the logits' scale, in the proof; sums that differ in terms of zero alone are mostly the same bits
_UNKNOWN = -2
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = nn.modules.batchnorm._NormBase

Tables = dict[tuple[str, str], Tensor]  # (module name, "makes" or "reads") -> int64 channel numbers


def follow_channels(module: nn.Module, head: str, weights: Mapping[str, Tensor], spec: InputSpec) -> Channels:
    """The channels of ``module``, which is left as it was found.

    Args:
        head: the head's module name.
        weights: the packable weights by name.

    Raises:
        EnvironmentFault: torch-pruning is not installed.
        UsageError: something mixes channels (a shuffle, a normalisation across them), so that no task can own them.
    """
    parts = dict(module.named_modules())
    layers = {name: parts.get(name.removesuffix(".weight")) for name in weights}
    for name, part in layers.items():
        if not isinstance(part, _LAYERS):
            raise _cannot(f"parameter '{name}' belongs to {type(part).__name__}")
    tables: Tables = {(head, "reads"): torch.full((_read(parts[head]),), FROM_IMAGES)}
    for name, part in parts.items():
        if f"{name}.weight" in layers:
            tables[name, "makes"] = torch.full((len(part.weight),), _UNKNOWN)
            tables[name, "reads"] = torch.full((_read(part),), FROM_IMAGES)
        elif isinstance(part, _NORMS):
            tables[name, "makes"] = torch.full((part.num_features,), _UNKNOWN)
    bundles = _fill(tables, module, spec)
    if unknown := [name for (name, side), numbers in tables.items() if side == "makes" and (numbers < 0).any()]:
        raise _cannot(f"the channels of '{unknown[0]}' are lost on the way")
    found = Channels(
        {
            name: Layer(tables[path, "makes"], tables[path, "reads"], getattr(parts[path], "groups", 1))
            for name in layers
            if (path := name.removesuffix(".weight"))
        },
        tables[head, "reads"],
        {name: tables[name, "makes"] for name, part in parts.items() if isinstance(part, _NORMS)},
        bundles,
    )
    _prove(found, module, head, weights, spec)
    return found


def _fill(tables: Tables, module: nn.Module, spec: InputSpec) -> Tensor:
    """Number the channels, one bundle of coupled layers after the other; returns each channel's bundle."""
    names = {part: name for name, part in module.named_modules()}
    bundles = list[Tensor]()
    graph, groups = _coupled(module, _image(module, spec))
    for group in groups:
        first, made = sum(map(len, bundles)), False
        for item in group:
            part = item.dep.target.module
            side = "makes" if graph.is_out_channel_pruning_fn(item.dep.handler) else "reads"
            for table in (tables.get((names.get(part, ""), one)) for one in _sides(part, side)):
                if table is None:  # an operation without weights, or the head's classes
                    continue
                numbers = first + torch.tensor(item.root_idxs)
                if ((table[item.idxs] >= 0) & (table[item.idxs] != numbers)).any():
                    raise _cannot(f"the channels of '{names[part]}' come from two places")
                table[item.idxs], made = numbers, True
        if made:
            bundles.append(torch.full((len(group[0].idxs),), len(bundles)))
    return torch.cat(bundles)


def _coupled(module: nn.Module, image: Tensor) -> tuple[Any, list[Any]]:
    """torch-pruning's graph of the module, and its groups: all that loses a channel when one layer's output does."""
    try:
        import torch_pruning
    except ImportError as error:
        raise missing_package("torch-pruning", "filters", "filter pruning") from error
    with evaluating(module), _differentiable(module):
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(module, image, verbose=False)
            return graph, list(graph.get_all_groups())
        except Exception as error:  # asserts, divides by zero, recurses: whatever an unknown operation leads to
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise _cannot(f"torch-pruning says: {reason}") from error


def _sides(part: nn.Module, side: str) -> tuple[str, ...]:
    """A depthwise convolution that loses an output loses the input."""
    depthwise = isinstance(part, _LAYERS) and 1 < getattr(part, "groups", 1) == len(part.weight)
    return ("makes", "reads") if depthwise else (side,)


@torch.no_grad()
def _prove(channels: Channels, module: nn.Module, head: str, weights: Mapping[str, Tensor], spec: InputSpec) -> None:
    """Random weights in half the channels; the same beside random weights in the other half: the same logits."""
    generator = torch.Generator().manual_seed(0)
    half = channels.fed(torch.rand(channels.count, generator=generator) < 0.5)
    everything = torch.ones_like(half)
    alone, beside = channels.between(half, half), channels.between(~half, everything)
    random = {
        name: torch.randn(weight.shape, generator=generator).to(weight.device) * (2 / weight[0].numel()) ** 0.5
        for name, weight in weights.items()
    }
    head_weight = find_head(module, head).weight
    reads = with_images(half)[channels.head].expand(len(head_weight), -1)
    own = {f"{head}.weight": torch.ones_like(head_weight) * over(reads, head_weight)}
    answers = []
    with evaluating(module):
        for masks in (alone, {name: alone[name] | beside[name] for name in alone}):
            tensors = {name: weight * over(masks[name], weight) for name, weight in random.items()}
            answers.append(torch.func.functional_call(module, tensors | own, (_image(module, spec),)))
    difference, scale = (answers[1] - answers[0]).abs().max(), answers[0].abs().max()
    if not difference <= TOLERANCE * scale:
        raise _cannot("something in its forward mixes them: a channel shuffle, or a normalisation across channels")


@contextmanager
def _differentiable(module: nn.Module) -> Iterator[None]:
    """Every parameter asks for gradients inside, because autograd's graph is what is followed."""
    asking = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, before in asking:
            parameter.requires_grad_(before)


def _image(module: nn.Module, spec: InputSpec) -> Tensor:
    return torch.from_numpy(probe_batch(spec)[:1]).to(next(module.parameters()).device)


def _read(layer: Any) -> int:
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def _cannot(why: str) -> UsageError:
    return UsageError(
        f"filter-pruning: this network's channels cannot be followed ({why}); "
        "choose another network, or --method packnet"
    )
