"""Whether a network takes an image size, said before anything runs; torch answers the same question by trying."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from packnet_deploy.errors import UsageError
from packnet_deploy.export.api import export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.sizes import expect_takes_its_images
from packnet_deploy.pack import Pack


def network(side: int, pads: int = 0, dilation: int = 1, auto_pad: str = "NOTSET", ceil: int = 0) -> onnx.ModelProto:
    """A convolution of 3x3 without a stated kernel_shape, a pool of 2x2, then a pool of 5x5."""
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], name="first", pads=[pads] * 4, dilations=[dilation] * 2)
        if auto_pad == "NOTSET"
        else helper.make_node("Conv", ["images", "w"], ["a"], name="first", auto_pad=auto_pad),
        helper.make_node("MaxPool", ["a"], ["b"], name="second", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil),
        helper.make_node("AveragePool", ["b"], ["logits"], name="third", kernel_shape=[5, 5]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, side, side])
    weights = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [images, weights], [logits])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize(
    ("arguments", "least"),
    [({}, 12), ({"pads": 1}, 10), ({"dilation": 2}, 14), ({"auto_pad": "SAME_UPPER"}, 10), ({"ceil": 1}, 11)],
)
def test_the_least_size_is_the_one_that_onnx_runtime_takes(arguments: dict[str, int], least: int) -> None:
    import onnxruntime

    expect_takes_its_images(network(least, **arguments))
    session = onnxruntime.InferenceSession(network(least, **arguments).SerializeToString())
    feeds = {"images": np.zeros((1, 3, least, least), np.float32), "w": np.zeros((4, 3, 3, 3), np.float32)}
    assert min(session.run(None, feeds)[0].shape) == 1
    with pytest.raises(
        UsageError, match=f"image size {least - 1}x{least - 1}: layer 'third' slides a window of 5x5 over 4x4"
    ):
        expect_takes_its_images(network(least - 1, **arguments))


def test_a_size_too_small_is_refused_with_the_layer_and_leaves_nothing(golden: Path, tmp_path: Path) -> None:
    """Without the check ONNX Runtime divides by zero, which ends the process."""
    for verify in (True, False):
        options = ExportOptions(image_size=1, verify=verify)
        with pytest.raises(UsageError, match=r"image size 1x1: layer '.*' slides a window of"):
            export_task(Pack.open(golden), "birds", tmp_path / "birds.onnx", options)
    assert list(tmp_path.iterdir()) == []
