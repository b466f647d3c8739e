"""Tracing a network once for all the packs that tests make of it."""

from __future__ import annotations

from typing import Any

from packnet_deploy.training.trace import trace_skeleton

_traced: dict[Any, Any] = {}


def traced_once(module: Any, head: str, spec: Any) -> Any:
    """The skeleton knows neither weights nor the number of classes, so the layers beside the head identify it."""
    layers = tuple(
        (name, repr(part)) for name, part in module.named_modules() if not (list(part.children()) or name == head)
    )
    key = (layers, head, spec.shape)
    if key not in _traced:
        _traced[key] = trace_skeleton(module, head, spec)
    return _traced[key]
