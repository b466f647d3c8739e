"""What keeping frozen weights costs: a guarded training step against plain SGD, on the CPU.

    python tests/benchmarks/training_step.py [--steps N]

Two networks of 8.6 to 8.7 M packable weights, batch 32, SGD with momentum and weight decay: `linear`, 32x32 images,
most weights in two wide linear layers, so much to guard for little to compute (a hard case); `convolutional`, 64x64
images, seven convolutions. Each trained plain; as task 2 of a pack; as task 5. Steps of the three are taken in turn,
so that a noisy machine disturbs them alike. The goal is a ratio of at most 1.03, the same for any number of tasks.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.pack import InputSpec
from packnet_deploy.training.network import PackedNetwork

BATCH, CLASSES = 32, 10


def convolutions(*widths: int) -> list[nn.Module]:
    """3x3 convolutions with BatchNorm; each of the first four halves the image."""
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(itertools.pairwise((3, *widths))):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place < 4 else []
    return layers


def linear() -> nn.Sequential:
    wide = [nn.Flatten(), nn.Linear(2048, 3072), nn.ReLU(), nn.Linear(3072, 256), nn.ReLU()]
    return nn.Sequential(*convolutions(64, 128, 256, 512), *wide, nn.Linear(256, CLASSES))


def convolutional() -> nn.Sequential:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*convolutions(64, 128, 256, 512, 512, 512, 512), *pooled, nn.Linear(512, CLASSES))


NETWORKS = {"linear": (linear, 32), "convolutional": (convolutional, 64)}


def stepper(build: Callable[[], nn.Sequential], side: int, frozen_tasks: int | None) -> Callable[[], float]:
    """A function that takes one step and gives its seconds; None: plain SGD, nothing frozen or guarded."""
    torch.manual_seed(0)
    module = build()
    spec = InputSpec((3, side, side), (0.5,) * 3, (0.25,) * 3, resize=side)
    network = PackedNetwork(module, str(len(module) - 1), spec)
    for task in range(frozen_tasks or 0):
        network.begin(f"task{task}", [str(i) for i in range(CLASSES)])
        network.prune(0.75)
        network.freeze()
    if frozen_tasks is not None:
        network.begin("measured", [str(i) for i in range(CLASSES)])
    else:  # what is frozen after task 1 in any scheme: biases and normalisation; the difference left is the guard
        for name in network.shared():
            if name in dict(module.named_parameters()):
                module.get_parameter(name).requires_grad_(False)
    optimizer = torch.optim.SGD(network.trainable_parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    if frozen_tasks is not None:
        network.guarded(optimizer)
    images, labels = torch.randn(BATCH, *spec.shape), torch.randint(0, CLASSES, (BATCH,))

    def step() -> float:
        module.train()
        if frozen_tasks is None:
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="steps of each kind that count")
    options = parser.parse_args()
    print(f"{describe_machine()}; {torch.get_num_threads()} torch threads, torch {torch.__version__}")
    for name, (build, side) in NETWORKS.items():
        size = sum(p.numel() for p in build().parameters())
        print(f"{name}, {size / 1e6:.1f} M parameters, {side}x{side} images, batch {BATCH}   (goal: at most 1.03)")
        measure(build, side, options.steps)


def measure(build: Callable[[], nn.Sequential], side: int, steps: int) -> None:
    """Print one network's figures."""
    tasks = {"plain SGD": None, "task 2 (1 frozen)": 1, "task 5 (4 frozen)": 4}
    kinds = {name: stepper(build, side, frozen) for name, frozen in tasks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for index in range(steps + 5):
        for name, step in kinds.items():
            taken = step()
            if index >= 5:
                seconds[name].append(taken)
    plain = seconds["plain SGD"]
    for name, taken in seconds.items():
        ratio = statistics.median(t / p for t, p in zip(taken, plain, strict=True))
        print(
            f"  {name:<18} median {statistics.median(taken) * 1e3:7.2f} ms, ÷ plain: median of pairs {ratio:.3f}, "
            f"of medians {statistics.median(taken) / statistics.median(plain):.3f}, "
            f"of minima {min(taken) / min(plain):.3f}"
        )


if __name__ == "__main__":
    main()
