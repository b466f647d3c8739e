"""Weights as a pack stores them: finite, and rounded to the dtype it stores."""

from __future__ import annotations

import torch
from torch import Tensor

from packnet_deploy.errors import CheckFailed, UsageError
from packnet_deploy.pack.delta import VALUE_DTYPES

_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
