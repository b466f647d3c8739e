"""Deltas and manifests with one thing wrong, made without the code under test: only json and byte offsets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tensors = dict[str, tuple[str, list[int], bytes]]  # name: dtype code, shape, data
Forger = Callable[[Tensors, dict[str, str]], Any]


def forged(original: Path, target: Path, change: Forger) -> Path:
    """A copy of a delta file with ``change(tensors, metadata)`` made to it; still a valid safetensors file."""
    data = original.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__")
    tensors: Tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], data[start + begin : start + end])
    change(tensors, metadata)
    header, body = {"__metadata__": metadata}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return target
