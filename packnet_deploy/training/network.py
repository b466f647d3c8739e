"""A network under packing: out of a pack, through the cycle, and into the pack again; and to and from a checkpoint.

The cycle itself is cycle.py, around algorithm.py. What a whole ``packnet train`` does is run.py and task.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from packnet_deploy.errors import ArtefactError, StepOrderError, UsageError
from packnet_deploy.pack import InputSpec, NewTask, Pack, bank_sha256, probe_batch
from packnet_deploy.pack.owners import FREE
from packnet_deploy.training.algorithm import Phase
from packnet_deploy.training.cycle import PackingCycle
from packnet_deploy.training.module import Arrays, all_tensors, arrays_of, copies_of, difference, like
from packnet_deploy.training.parts import depthwise_names, find_head, renew_head


class PackedNetwork(PackingCycle):
    """Takes a module through train → prune → retrain → freeze, task after task.

    >>> network = PackedNetwork(module, head="fc", spec=InputSpec(...))     # or PackedNetwork.resume(pack, module)
    >>> network.begin("birds", classes)
    >>> optimizer = network.guarded(torch.optim.SGD(network.trainable_parameters(), lr=0.01))
    ... # train
    >>> network.prune(0.75)
    ... # retrain, with a new optimiser
    >>> network.freeze()
    >>> pack = append_task(pack, network.new_task())                        # or create_pack(..., first=...)

    The module stays an ordinary module: train it, move it, copy it as usual. Weights that must not change are put
    back after every optimiser step and before every forward, bit for bit (guard.py).

    Args:
        module: convolutions and linear layers with a final head; changed in place.
        head: the head module's name, e.g. ``fc`` or ``classifier.1``.
        spec: the input that tasks are trained on.
        pattern: "2:4" packs so that all tasks together keep to it, in every layer where that is possible; see
            ``packable`` for which. It holds from the first ``prune`` on; a given network is dense until then.
        depthwise: pack depthwise filters like all others; else they are shared, or a task's own (``begin``).

    Raises:
        UsageError: no such head, or the module has weights that packing would silently leave out, or the pattern is
            possible nowhere.
    """

    @classmethod
    def resume(cls, pack: Pack, module: nn.Module) -> PackedNetwork:
        """The network of an existing pack, ready for ``begin`` of its next task.

        Args:
            module: the pack's network, any weights; its own are overwritten.

        Raises:
            ArtefactError: the module is not the network that the pack was made from; names what differs.
        """
        foreign = f"{pack.path}: made for another network than {pack.backbone.arch}"
        try:
            pattern = max((param.pattern for param in pack.packable), default="")
            depthwise = not depthwise_names(module).isdisjoint(param.name for param in pack.packable)
            network = cls(module, pack.backbone.head, pack.input, pattern, depthwise=depthwise)
        except UsageError as error:
            raise ArtefactError(f"{foreign}: {error}") from error
        if network.packable != pack.packable:
            differing = sorted({param.name for param in {*network.packable} ^ {*pack.packable}})
            raise ArtefactError(f"{foreign}: {', '.join(differing[:3]) or 'the order of the parameters'} differ")
        if not pack.tasks:
            return network
        bank, shared = pack.bank(), network.shared()
        if names := difference(bank.shared, shared):
            raise ArtefactError(f"{foreign}: {names} differ")
        with torch.no_grad():
            for name, values in bank.values.items():
                network._weights[name].copy_(torch.from_numpy(values))
            for name, values in bank.shared.items():
                shared[name].copy_(torch.from_numpy(values))
        owners = {name: like(torch.from_numpy(bank.owners[name]), w) for name, w in network._weights.items()}
        network.state = replace(network.state, owners=owners, task=bank.tasks)
        network._protect()
        return network

    def new_task(self, report: Mapping[str, Any] | None = None, spec: InputSpec | None = None) -> NewTask:
        """The task just frozen, for ``create_pack`` or ``append_task``; its arrays are copies off the module.

        Args:
            report: figures to keep with the task; JSON.
            spec: how its images became the input, where that is not as the network's own ``spec`` says.

        Raises:
            StepOrderError: no task has been frozen here.
        """
        if self.state.phase is not Phase.FROZEN or not self._classes:
            raise StepOrderError(
                f"new_task() is out of order: task {self.state.task} is in phase {self.state.phase.name}; "
                "it needs a task trained here and frozen: begin(), prune(), freeze()"
            )
        self._guard.restore()
        shared, weights, owners = arrays_of(self.shared()), arrays_of(self._weights), self.owner_maps()
        return NewTask(
            name=self._task,
            classes=self._classes,
            owners=owners,
            weights=weights,
            head=arrays_of(dict(find_head(self.module, self.head).named_parameters())),
            probe_logits=self.logits(probe_batch(self.spec)),
            frozen_sha256=bank_sha256(self.packable, weights, owners, shared, self.state.task - 1),
            shared=shared if self.state.task == 1 else {},
            own=arrays_of(self.own()),
            value_dtype=self._value_dtype,
            report=report or {},
            input=spec,
        )

    def as_task(self, index: int) -> Arrays:
        """The live packable weights and shared tensors as task ``index`` sees them, fresh on the CPU; with its own
        biases and normalisation if it is the present task."""
        owners, arrays = self.owner_maps(), arrays_of(self._weights)
        for name, values in arrays.items():
            values[(owners[name] == FREE) | (owners[name] > index)] = 0
        return arrays | arrays_of(self.shared()) | (arrays_of(self.own()) if index == self.state.task else {})

    def snapshot(self) -> dict[str, Any]:
        """All there is to know at this moment, as tensors on the CPU and plain values, for ``restore`` elsewhere."""
        self._guard.restore()
        return {
            "network": self._description(),
            "task": self._task,
            "classes": list(self._classes),
            "value_dtype": self._value_dtype,
            "index": self.state.task,
            "phase": self.state.phase.name,
            "claimed": dict(self.state.claimed),
            "owners": copies_of(self.state.owners),
            "aside": copies_of(self._aside),
            "tensors": copies_of(all_tensors(self.module)),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to where ``snapshot`` was taken, in a network freshly made or resumed as that one was.

        What was trained on from there is trained on bit for bit, given the same optimiser, data and random numbers.
        (Restoring draws random numbers itself: put their state back afterwards.)

        Raises:
            ArtefactError: the snapshot is of another network; names what differs.
        """
        if snapshot["network"] != self._description():
            raise ArtefactError("snapshot: taken of a network with other packable parameters, pattern or head")
        if snapshot["classes"] and self.head_width != len(snapshot["classes"]):
            renew_head(self.module, self.head, len(snapshot["classes"]))
        tensors = all_tensors(self.module)
        if names := difference(snapshot["tensors"], tensors):
            raise ArtefactError(f"snapshot: taken of another network: {names} differ")
        self._guard.remove()  # before the values change, which it would put back
        with torch.no_grad():
            for name, values in snapshot["tensors"].items():
                tensors[name].copy_(values)
        self._aside = {name: like(values, tensors[name]) for name, values in snapshot["aside"].items()}
        self._task, self._classes = snapshot["task"], tuple(snapshot["classes"])
        self._value_dtype = snapshot["value_dtype"]
        self.state = replace(
            self.state,
            owners=snapshot["owners"],
            task=snapshot["index"],
            phase=Phase[snapshot["phase"]],
            claimed=snapshot["claimed"],
        )
        self.state = self._at_home()
        self._protect()

    def _description(self) -> dict[str, Any]:
        """What two networks must have in common for one to take on the other's snapshot."""
        return {"head": self.head, "packable": [[p.name, list(p.shape), p.pattern] for p in self.packable]}
