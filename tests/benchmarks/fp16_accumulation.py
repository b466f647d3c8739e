"""How far logits move where products are added up in fp16, as TensorRT may do: the ground of ``engine_tolerance``.

A tensor core adds 16 products exactly and then to a sum that is fp16 or fp32. Here every convolution and linear layer
does so, in PyTorch on the CPU: weights and activations in fp16, sums rounded to fp16 after every 16 products, or once,
at the end of the layer. What it prints, beside what is allowed: by how much of their scale logits differ from fp32's.
Random weights, normalised by statistics of the images, unless there are ``--weights`` that were trained: random
networks magnify what is rounded, trained ones hardly do.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.runners.comparison import compare
from packnet_deploy.training.backbones import build

ARCHS = ("squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50", "densenet121")
CHUNK = 16  # products that are added exactly
IMAGES, CLASSES = 4, 100

Layer = Callable[[torch.Tensor], torch.Tensor]


def half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().float()


def added_up(weight: torch.Tensor, columns: torch.Tensor, chunk: int) -> torch.Tensor:
    """``weight [g, o, k] @ columns [n, g, k, l]``, the sum rounded to fp16 after every ``chunk`` products."""
    total = torch.zeros(columns.shape[0], *weight.shape[:2], columns.shape[-1])
    for start in range(0, weight.shape[-1], chunk):
        part = slice(start, start + chunk)
        total = half(total + weight[..., part] @ columns[..., part, :])
    return total


def convolution(layer: nn.Conv2d, chunk: int) -> Layer:
    def forward(x: torch.Tensor) -> torch.Tensor:
        columns = functional.unfold(half(x), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        grouped = columns.reshape(len(x), layer.groups, -1, columns.shape[-1])
        weight = half(layer.weight).reshape(layer.groups, layer.out_channels // layer.groups, -1)
        out = added_up(weight, grouped, chunk or weight.shape[-1]).reshape(len(x), layer.out_channels, -1)
        if layer.bias is not None:
            out = half(out + half(layer.bias)[:, None])
        width = x.shape[3] + 2 * layer.padding[1] - layer.dilation[1] * (layer.kernel_size[1] - 1) - 1
        return out.reshape(len(x), layer.out_channels, -1, width // layer.stride[1] + 1)

    return forward


def linear(layer: nn.Linear, chunk: int) -> Layer:
    def forward(x: torch.Tensor) -> torch.Tensor:
        weight = half(layer.weight)[None]
        out = added_up(weight, half(x)[:, None, :, None], chunk or weight.shape[-1])[:, 0, :, 0]
        return half(out + half(layer.bias))

    return forward


def normalisation(layer: nn.BatchNorm2d) -> Layer:
    def forward(x: torch.Tensor) -> torch.Tensor:
        scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
        shift = layer.bias - layer.running_mean * scale
        return half(half(x * half(scale)[:, None, None]) + half(shift)[:, None, None])

    return forward


def in_half(module: nn.Module, chunk: int) -> None:
    """``chunk``: products between roundings; 0 for one at the end."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.forward = convolution(layer, chunk)
        elif isinstance(layer, nn.Linear):
            layer.forward = linear(layer, chunk)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.forward = normalisation(layer)


def measure(arch: str, seed: int, size: int, weights: Path | None) -> tuple[int, float, float]:
    """Layers; and differences by their scale, summed in fp32 and in fp16."""
    torch.manual_seed(seed)
    module, _ = build(arch, CLASSES)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    images = torch.randn(IMAGES, 3, size, size)
    layers = sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in module.modules())
    with torch.inference_mode():
        if weights is None:
            module.train()(images)
        else:
            fitting = {n: t for n, t in torch.load(weights).items() if t.shape == module.state_dict()[n].shape}
            module.load_state_dict(fitting, strict=False)
        expected = module.eval()(images).numpy()
        found = []
        for chunk in (0, CHUNK):
            in_half(module, chunk)
            found.append(compare(module(images).numpy(), expected).of_scale)
    return layers, found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", action="append", choices=ARCHS, help="one of them; may be repeated  [default: all]")
    parser.add_argument("--weights", type=Path, help="a state dict of that one network, its head aside")
    parser.add_argument("--size", type=int, default=128, help="of the images")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    own = PRECISIONS["fp16"].tolerance
    print(f"torch {torch.__version__}; largest difference of {options.seeds} draws, by the logits' scale")
    print("network, layers, summed in fp32, in fp16, ratio, allowed, of that")
    for arch in options.arch or ARCHS:
        found = [measure(arch, seed, options.size, options.weights) for seed in range(options.seeds)]
        layers, (alone, both) = found[0][0], (max(one[which] for one in found) for which in (1, 2))
        allowed = own * (1 + math.sqrt(layers) / 4)
        figures = f"{alone:.2g}, {both:.2g}, {both / alone:.2f}, {allowed:.2g}, {both / allowed:.2f}"
        print(f"{arch}, {layers}, {figures}", flush=True)


if __name__ == "__main__":
    main()
