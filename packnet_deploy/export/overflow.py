"""Does any activation leave float16's range? ONNX Runtime's CPU would not show it.

It has few float16 kernels and computes the rest in float32, so logits come out right where an engine with real
float16 arithmetic gives infinities. Here every tensor that depends on the images is asked for, as float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from packnet_deploy.errors import CheckFailed
from packnet_deploy.export.session import open_session
from packnet_deploy.export.skeleton import IMAGES, LOGITS


def expect_no_overflow(path: Path, feeds: Mapping[str, npt.NDArray[Any]], task: str) -> None:
    """Run the model at ``path`` once; a second copy of its graph is left beside it.

    Raises:
        CheckFailed: an activation is infinite or NaN; names the first one.
    """
    model = onnx.load(path, load_external_data=False)
    known = {value.name for value in model.graph.output}
    names = [name for name in _activations(model.graph) if name not in known and not name.startswith(LOGITS)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    copy = path.with_name(f"{path.name}.activations")
    copy.write_bytes(model.SerializeToString())
    for name, values in zip(names, open_session(copy).run(names, dict(feeds)), strict=True):
        if not np.all(np.isfinite(values)):
            raise CheckFailed(
                f"task '{task}': activation '{name}' leaves float16's range on the probe batch, so nothing was kept; "
                "use --precision bf16 or fp32"
            )


def _activations(graph: onnx.GraphProto) -> list[str]:
    """What is computed from the images, in order."""
    found = {IMAGES: None}
    for node in graph.node:
        if any(name in found for name in node.input):
            found |= dict.fromkeys(node.output)
    return [name for name in found if name != IMAGES]
