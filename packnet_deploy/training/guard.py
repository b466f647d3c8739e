"""Keeps weights that must not change bit-identical under any optimiser.

Masking gradients is not enough: momentum and weight decay move weights whose gradient is zero. So after every
optimiser step the frozen values are put back, whatever the step did: ``w = frozen + w * trainable``, on the weights'
bits taken as integers. That is exact for every value (in floating point it is not: -0.0, infinities, NaN), one pass
over the weights, and costs the same for two tasks and for two hundred.

Optimiser hooks are lost when an optimiser is copied or pickled, and an optimiser made by somebody else never has
them. So the same happens before a forward, from a hook of the module's own, which survives both, unless the
optimiser's hook has done it already and nothing has written to the weights since.

Autograd does not see the restoring: it puts back the values that a pending backward has saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by item size, bytes


class FrozenGuard:
    """Restores ``frozen`` wherever ``trainable`` is false, for the weights of one module.

    Args:
        layers: (parameter, trainable, frozen): bool and values of the parameter's shape.
        inference_only: modules held in eval mode (normalisation whose statistics are frozen).
    """

    def __init__(
        self, layers: Iterable[tuple[nn.Parameter, Tensor, Tensor]], inference_only: Iterable[nn.Module] = ()
    ) -> None:
        self._layers = [
            (weight, *_bits(weight, trainable, frozen))
            for weight, trainable, frozen in layers
            if not bool(trainable.all())
        ]
        self._inference_only = list(inference_only)
        self._restored: list[int] | None = None  # the weights' versions then; None once a step may have begun
        self._handles: list[Any] = []

    def watch(self, module: nn.Module) -> None:
        """Restore before every forward of ``module`` and before its state is read by ``state_dict``."""
        self._handles.append(module.register_forward_pre_hook(self._before_forward))
        self._handles.append(module.register_state_dict_pre_hook(self._before_state_dict))  # type: ignore[no-untyped-call]

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Restore after every step of ``optimizer``."""
        self._handles.append(optimizer.register_step_post_hook(self._after_step))

    def remove(self) -> None:
        """Hold nothing any more, hooks and tensors; frozen values are put back a last time."""
        self.restore()
        self._unhook()
        self._layers, self._inference_only = [], []

    @staticmethod
    def release(module: nn.Module) -> bool:
        """Take every guard's hooks off a module that is to be packed anew, values untouched; whether there were any."""
        owners = [getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values()]
        guards = [owner for owner in owners if isinstance(owner, FrozenGuard)]
        for guard in guards:
            guard._unhook()
        return bool(guards)

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.no_grad()
    def restore(self) -> None:
        """Put every frozen value back, now."""
        for i, (weight, mask, frozen) in enumerate(self._layers):
            if mask.device != weight.device:
                self._layers[i] = (weight, mask.to(weight.device), frozen.to(weight.device))
        for weight, mask, frozen in self._layers:
            bits = weight.data.view(mask.dtype)
            torch.addcmul(frozen, bits, mask, out=bits)
        self._restored = self._versions()

    def _versions(self) -> list[int]:
        """PyTorch's count of in-place writes to each weight: optimisers and ``load_state_dict`` raise it."""
        return [weight._version for weight, _, _ in self._layers]

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.restore()

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        for part in self._inference_only:
            part.training = False
        if self._restored != self._versions():
            self.restore()
        if module.training:
            self._restored = None  # a step may follow that no hook of ours sees, nor any count (``p.data``)

    def _before_state_dict(self, module: nn.Module, prefix: str, keep_vars: bool) -> None:
        self.restore()


def _bits(weight: Tensor, trainable: Tensor, frozen: Tensor) -> tuple[Tensor, Tensor]:
    """Two integers a weight: 1 where it is trainable, and the frozen value's bits where it is not; 0 elsewhere.

    Both lie in memory as the weight does (channels last, say), so that the pass runs in order.
    """
    integer = _INTEGERS[weight.element_size()]
    mask = torch.empty_like(weight, dtype=integer, requires_grad=False).copy_(trainable)
    kept = torch.empty_like(weight, requires_grad=False).copy_(frozen).view(integer)
    return mask, kept.mul_(1 - mask)
