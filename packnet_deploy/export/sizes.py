"""Whether a network takes an image size, found out from its graph before anything is computed.

A window that is larger than what it slides over leaves nothing; some runtimes do not survive that, and none says which
layer it was.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import ModelProto, NodeProto

from packnet_deploy.errors import UsageError
from packnet_deploy.runners.contract import IMAGES

SLIDING = ("Conv", "MaxPool", "AveragePool")
UNKNOWN = -(1 << 20)  # and still below 0 with any pads added


def expect_takes_its_images(model: ModelProto) -> None:
    """Check that every window of ``model``, whose images have a stated size, fits what it slides over.

    Raises:
        UsageError: one does not; names its layer and both sizes.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare).graph
    shapes = {value.name: _sizes(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    side = "x".join(map(str, shapes[IMAGES][2:]))
    for node in inferred.node:
        if node.op_type not in SLIDING or not node.input or len(shapes.get(node.input[0], ())) != 4:
            continue
        said = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if said.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            continue  # padded to fit, whatever comes
        seen, window = shapes[node.input[0]][2:], _window(node, said, shapes)
        pads = said.get("pads", [0, 0, 0, 0])
        padded = [size + pads[axis] + pads[axis + 2] for axis, size in enumerate(seen)]
        # A pool that rounds up takes a window that hangs over by less than a stride.
        over = [step - 1 if said.get("ceil_mode") else 0 for step in said.get("strides", [1, 1])]
        least = [max(size - hang, 1) for size, hang in zip(window, over, strict=True)]
        if any(0 <= size < needed for size, needed in zip(padded, least, strict=True)):
            raise UsageError(
                f"image size {side}: layer '{node.name or node.output[0]}' slides a window of "
                f"{'x'.join(map(str, window))} over {'x'.join(map(str, padded))}, of which nothing would be left; "
                "choose a larger one"
            )


def _window(node: NodeProto, said: dict[str, Any], shapes: dict[str, list[int]]) -> list[int]:
    """Height and width that a window spans, its gaps included."""
    kernel = said.get("kernel_shape") or shapes.get(node.input[1], [0, 0, 0, 0])[2:]
    return [gap * (size - 1) + 1 for size, gap in zip(kernel, said.get("dilations", [1, 1]), strict=True)]


def _sizes(value: Any) -> list[int]:
    """A tensor's shape; ``UNKNOWN`` where a size is not said, which no window is held against."""
    return [size.dim_value if size.HasField("dim_value") else UNKNOWN for size in value.type.tensor_type.shape.dim]
