"""A module as packing sees it: packable weights, the head, and what all tasks share of the rest or have of their own.

Which tensor is which is parts.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from packnet_deploy.errors import CheckFailed, UsageError
from packnet_deploy.pack import InputSpec, ParamSpec
from packnet_deploy.pack.encode import VALUE_DTYPES
from packnet_deploy.training.inference import cpu_logits
from packnet_deploy.training.parts import (
    find_head,
    floating_tensors,
    packable_weights,
    param_specs,
    put_back,
    set_aside,
)

Arrays = dict[str, npt.NDArray[np.float32]]
_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class PackableModule:
    """The tensors of ``module`` by what becomes of them.

    Args:
        depthwise: depthwise filters are packable, and not what tasks share or have of their own.

    Attributes:
        packable: the packable parameters as pack.json lists them.
    """

    def __init__(
        self, module: nn.Module, head: str, spec: InputSpec, pattern: str = "", *, depthwise: bool = True
    ) -> None:
        self.module, self.head, self.spec = module, head, spec
        find_head(module, head)
        self._weights = packable_weights(module, head, depthwise)
        self.packable: Sequence[ParamSpec] = param_specs(module, self._weights, pattern)
        self._aside: dict[str, Tensor] = {}  # task 1's values of what the present task has of its own

    @property
    def head_width(self) -> int:
        """How many classes the module's present head tells apart."""
        return find_head(self.module, self.head).weight.shape[0]

    def shared(self) -> dict[str, Tensor]:
        """Every parameter and floating buffer that is neither packable nor the head's: frozen after task 1.

        Task 1's values, also while the module holds a task's own instead.
        """
        head = f"{self.head}."
        return {
            name: self._aside.get(name, tensor)
            for name, tensor in floating_tensors(self.module).items()
            if name not in self._weights and not name.startswith(head)
        }

    def tensors(self) -> dict[str, Tensor]:
        """Every packable weight and what ``shared`` gives, as they are now."""
        return {name: weight.detach() for name, weight in self._weights.items()} | self.shared()

    def own(self) -> dict[str, Tensor]:
        """What the present task has in the place of some of ``shared``."""
        return {name: tensor for name, tensor in floating_tensors(self.module).items() if name in self._aside}

    def logits(
        self, images: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[np.float32]] | None = None
    ) -> npt.NDArray[np.float32]:
        """Logits in eval mode on the CPU in float32, of the module as it is or with ``tensors`` in place of its own.

        Args:
            images: float32 ``[n, c, h, w]``, normalised.
            tensors: by the graph's input names, the head as ``head.weight`` and ``head.bias``.
        """
        if tensors is not None:
            return cpu_logits(self.module, images, self.torch_tensors(tensors))
        return cpu_logits(self.module, images, {name: t.detach().cpu() for name, t in all_tensors(self.module).items()})

    def torch_tensors(self, tensors: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Tensor]:
        """``tensors``, named as the graph's inputs are, under the module's names; memory is shared."""
        names = {"head.weight": f"{self.head}.weight", "head.bias": f"{self.head}.bias"}
        return {names.get(name, name): torch.from_numpy(values) for name, values in tensors.items()}

    def _separate(self, names: Collection[str]) -> None:
        """From now on these shared tensors are a task's own in the module, all beginning with task 1's values."""
        put_back(self.module, self._aside)
        self._aside = set_aside(self.module, names)


def all_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, tied ones once."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def arrays_of(tensors: Mapping[str, Tensor]) -> Arrays:
    """Fresh float32 arrays in C order."""
    return {name: t.detach().float().cpu().contiguous().numpy().copy() for name, t in tensors.items()}


def copies_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fresh tensors on the CPU, of the same dtypes."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def like(values: Tensor, weight: Tensor) -> Tensor:
    """``values`` on the weight's device and laid out in memory as it is."""
    return torch.empty_like(weight, dtype=values.dtype, requires_grad=False).copy_(values)


def rounded(name: str, weight: Tensor, mine: Tensor, value_dtype: str) -> Tensor:
    """``weight`` with its values at ``mine`` (bool) rounded to how they will be stored; the others as they are.

    Raises:
        UsageError: an unknown dtype.
        CheckFailed: one of these values is NaN or infinite, or does not fit the dtype.
    """
    if value_dtype not in VALUE_DTYPES:
        raise UsageError(f"value dtype: expected one of {', '.join(VALUE_DTYPES)}, got {value_dtype!r}")
    if not bool(torch.isfinite(weight).logical_or_(~mine).all()):
        raise CheckFailed(f"parameter {name!r}: a weight is NaN or infinite; train with a lower learning rate")
    stored = weight.to(_TORCH_DTYPES[value_dtype])
    if not bool(torch.isfinite(stored).logical_or_(~mine).all()):
        raise CheckFailed(f"parameter {name!r}: a weight does not fit {value_dtype}; store float32 or bfloat16")
    return weight if stored.dtype == weight.dtype else torch.where(mine, stored.to(weight.dtype), weight)


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first names of tensors or arrays that only one has, or in another shape; "" if there are none."""
    shapes = [{(name, tuple(values.shape)) for name, values in tensors.items()} for tensors in (one, other)]
    return ", ".join(sorted({name for name, _ in shapes[0] ^ shapes[1]})[:3])
