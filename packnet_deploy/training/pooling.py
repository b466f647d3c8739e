"""Adaptive average pooling as ONNX for a known image size: at most one pooling node, or two small matrix products.

torch's own translation falls back to index arithmetic (Gather, Where, Div) wherever the sizes do not divide, as for
VGG, whose 7x7 pooling meets 4x4 maps at 128 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxscript import opset20 as op


def adaptive_average_pool(image: Any, output_size: Sequence[int]) -> Any:
    """Translate ``aten.adaptive_avg_pool2d`` of ``[batch, c, h, w]``, h and w fixed; values are onnxscript's."""
    sizes = [int(str(size)) for size in image.shape[2:]]
    if all(out == 1 for out in output_size):
        return op.GlobalAveragePool(image)
    if sizes == list(output_size):
        return op.Identity(image)  # the cleaning leaves it out
    if all(size % out == 0 for size, out in zip(sizes, output_size, strict=True)):
        window = [size // out for size, out in zip(sizes, output_size, strict=True)]
        return op.AveragePool(image, kernel_shape=window, strides=window)
    rows, columns = (averages(size, out) for size, out in zip(sizes, output_size, strict=True))
    pooled_rows = op.MatMul(op.Constant(value=onnx.numpy_helper.from_array(rows)), image)
    return op.MatMul(pooled_rows, op.Constant(value=onnx.numpy_helper.from_array(columns.T)))


def averages(size: int, out: int) -> npt.NDArray[np.float32]:
    """The matrix ``[out, size]`` whose row i averages positions floor(i·size/out) .. ceil((i+1)·size/out) - 1."""
    matrix = np.zeros((out, size), np.float32)
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix
