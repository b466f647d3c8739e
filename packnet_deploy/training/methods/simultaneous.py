"""All tasks of a filter-pruned pack from one forward: the backbone once, every head beside the other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.training import backbones
from packnet_deploy.training.guard import FrozenGuard
from packnet_deploy.training.methods.channels import Channels, over, with_images
from packnet_deploy.training.methods.following import follow_channels
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.parts import find_head, renew_head


class Simultaneous(nn.Module):
    """float images ``[b, c, h, w]`` to ``{task: logits [b, classes]}``.

    Args:
        network: with a head as wide as all tasks' classes together.
        classes: how many each task has, in order.
    """

    def __init__(self, network: nn.Module, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.network, self.classes = network, dict(classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        parts = self.network(images).split(list(self.classes.values()), dim=1)
        return dict(zip(self.classes, parts, strict=True))


def simultaneous(pack: Pack, module: nn.Module | None = None) -> Simultaneous:
    """The pack as one network that answers all of its tasks, in eval mode.

    Its logits are those of the tasks one by one, up to the order in which floating-point sums are formed.

    Args:
        module: the pack's network, any weights; its own are overwritten. None: built by the name in the pack.

    Raises:
        EnvironmentFault: torch-pruning is not installed.
        UsageError: the pack's tasks do not own whole filters.
        ArtefactError: the module is not the pack's network, or the pack is damaged.
    """
    if module is None:
        module, _ = backbones.build(pack.backbone.arch, pack.tasks[0].classes)
    packed = PackedNetwork.resume(pack, module)
    weights = {param.name: module.get_parameter(param.name) for param in pack.packable}
    channels = follow_channels(module, packed.head, weights, packed.spec)
    owners = packed.state.owners
    made = channels.owners(owners)
    _require_filters(pack, channels, owners, made)
    heads = list[dict[str, Tensor]]()
    shared = packed.shared()
    for entry in pack.tasks:
        tensors = {name: torch.from_numpy(values) for name, values in pack.load_task(entry.name).tensors.items()}
        if apart := [name for name, values in shared.items() if not torch.equal(values, tensors[name])]:
            raise _cannot(pack, f"task {entry.name!r} has a '{apart[0]}' of its own")
        foreign = ~with_images((made > 0) & (made <= entry.index))[channels.head]
        if tensors["head.weight"][:, foreign].any():
            raise _cannot(pack, f"the head of {entry.name!r} reads channels that it does not own")
        heads.append({name: values for name, values in tensors.items() if name.startswith("head.")})
    FrozenGuard.release(module)
    renew_head(module, packed.head, sum(entry.classes for entry in pack.tasks))
    with torch.no_grad():
        for name, tensor in find_head(module, packed.head).named_parameters():
            tensor.copy_(torch.cat([own[f"head.{name}"] for own in heads]))
    return Simultaneous(module.requires_grad_(False), {entry.name: entry.classes for entry in pack.tasks}).eval()


def _require_filters(pack: Pack, channels: Channels, owners: Mapping[str, Tensor], made: Tensor) -> None:
    """Every owned weight belongs to the task of its filter, and reads a channel of that task or an older one."""
    for name, layer in channels.layers.items():
        makers = made[layer.outputs][:, None]
        read = torch.cat([made, torch.ones(1, dtype=made.dtype)])[layer.read_by_filter()]
        legal = over((read > 0) & (read <= makers), owners[name])
        if ((owners[name] > 0) & ~(legal & (owners[name] == over(makers, owners[name])))).any():
            raise _cannot(pack, f"parameter '{name}' is shared out weight by weight")


def _cannot(pack: Pack, why: str) -> UsageError:
    return UsageError(f"{pack.path}: its tasks cannot be answered at once: {why}; train with --method filter-pruning")
