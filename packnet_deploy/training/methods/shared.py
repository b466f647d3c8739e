"""One network that all tasks share and change, with a head for each: what joint training and LwF train.

The heads lie side by side in one wide output layer, so that one forward serves them all, and so that whatever
follows the output layer (SqueezeNet's pooling) applies to each. In the end it becomes a pack in which task 1 owns
every weight and the others own nothing but their heads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from packnet_deploy.pack import Backbone, InputSpec, Pack, append_task, create_pack
from packnet_deploy.pack.atomic import staging_folder, sync_directory
from packnet_deploy.training.guard import FrozenGuard
from packnet_deploy.training.module import rounded
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.parts import find_head, packable_weights, renew_head, statistical_layers
from packnet_deploy.training.trace import trace_skeleton


class ManyHeads(nn.Module):
    """A network with the heads of several tasks side by side.

    In training mode it answers with the logits of all tasks, float ``[b, classes of all]``; in eval mode with those
    of the ``chosen`` task.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.classes: dict[str, tuple[str, ...]] = {}
        self.chosen = ""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits if self.training else logits[:, self.columns(self.chosen)]

    def columns(self, task: str) -> slice:
        """Where a task's classes lie among all."""
        names = list(self.classes)
        first = sum(len(self.classes[name]) for name in names[: names.index(task)])
        return slice(first, first + len(self.classes[task]))

    @torch.no_grad()
    def add(self, task: str, classes: Sequence[str], *, keep_head: bool = False) -> None:
        """Another head, which is the ``chosen`` one from now on.

        Args:
            keep_head: the network's present head is the first task's own.
        """
        old = find_head(self.network, self.head)
        kept = [tensor[: sum(map(len, self.classes.values()))] for tensor in old.parameters()]
        self.classes[task], self.chosen = tuple(classes), task
        if keep_head:
            return
        renew_head(self.network, self.head, sum(map(len, self.classes.values())))
        for tensor, rows in zip(find_head(self.network, self.head).parameters(), kept, strict=True):
            tensor[: len(rows)] = rows


class SharedNetwork:
    """Trains a network with many heads; what ``fit`` calls a trainee.

    Args:
        network: convolutions and linear layers with a final head; changed in place.
        head: the head module's name.
    """

    def __init__(self, network: nn.Module, head: str, spec: InputSpec) -> None:
        self.module = ManyHeads(network, head)
        self.head, self.spec = head, spec
        self._guard = FrozenGuard([])

    def add(self, task: str, classes: Sequence[str], *, keep_head: bool = False) -> None:
        """Another head, for ``classes``; with ``keep_head`` the present one is the first task's own."""
        self.train_everything()
        self.module.add(task, classes, keep_head=keep_head)

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """The wide head's: those of all tasks."""
        return find_head(self.module.network, self.head).parameters()

    def guarded(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The same optimiser; it leaves alone what ``train_head`` holds."""
        self._guard.attach(optimizer)
        return optimizer

    def train_everything(self) -> None:
        """The network and every head may change."""
        self._guard.remove()
        self.module.requires_grad_(True)

    def train_head(self, task: str) -> None:
        """Only a task's own rows of the wide head may change; statistics of normalisation do not either."""
        self.train_everything()
        self.module.requires_grad_(False)
        rows = []
        for tensor in find_head(self.module.network, self.head).parameters():
            tensor.requires_grad_(True)
            own = torch.zeros_like(tensor, dtype=torch.bool)
            own[self.module.columns(task)] = True
            rows.append((tensor, own, tensor.detach().masked_fill(own, 0)))
        self._guard = FrozenGuard(rows, inference_only=statistical_layers(self.module))
        self._guard.watch(self.module)

    def snapshot(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint; ``restore`` puts it back."""
        classes = {task: list(names) for task, names in self.module.classes.items()}
        return {"classes": classes, "weights": self.module.state_dict()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to where ``snapshot`` was taken, in a network made as that one was."""
        self.module.classes.clear()
        for task, names in snapshot["classes"].items():
            self.add(task, names)
        self.module.load_state_dict(snapshot["weights"])

    @torch.no_grad()
    def round(self, value_dtype: str) -> None:
        """Round the packable weights to how a pack will store them.

        Raises:
            CheckFailed: one is not finite, or does not fit.
        """
        for name, weight in packable_weights(self.module.network, self.head).items():
            weight.copy_(rounded(name, weight, torch.ones_like(weight, dtype=torch.bool), value_dtype))

    def write_pack(
        self,
        path: Path,
        arch: str,
        reports: Mapping[str, Mapping[str, Any]],
        inputs: Mapping[str, InputSpec],
        value_dtype: str,
    ) -> Pack:
        """Make the pack; it appears whole or not at all. The network is spent afterwards.

        Args:
            reports: by task, figures to keep with it.
            inputs: by task, how its images become the input.
        """
        self.train_everything()
        wide = {name: tensor.detach() for name, tensor in find_head(self.module.network, self.head).named_parameters()}
        packed = PackedNetwork(self.module.network, self.head, self.spec)
        nothing = {param.name: torch.zeros(param.shape, dtype=torch.bool) for param in packed.packable}
        pack: Pack | None = None
        with staging_folder(path) as folder:
            temp = folder / path.name
            for task, classes in self.module.classes.items():
                packed.begin(task, classes, claim=nothing if pack else None)
                with torch.no_grad():
                    for name, tensor in find_head(packed.module, self.head).named_parameters():
                        tensor.copy_(wide[name][self.module.columns(task)])
                packed.prune(0)
                packed.freeze(value_dtype)
                new = packed.new_task(reports[task], inputs[task])
                if pack is None:
                    graph = trace_skeleton(packed.module, self.head, self.spec).SerializeToString(deterministic=True)
                    pack = create_pack(temp, Backbone(arch, self.head), self.spec, graph, packed.packable, new)
                else:
                    pack = append_task(pack, new)
            os.rename(temp, path)
        sync_directory(path.parent)
        return Pack.open(path)
