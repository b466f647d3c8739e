"""What keeping frozen weights costs: a guarded training step against plain SGD, on the CPU.

    python tests/benchmarks/training_step.py [--steps N]

One network of 8.7 M packable weights (convolutions with BatchNorm and two wide linear layers, 32x32 images, batch
32) trained by SGD with momentum and weight decay: plain; as task 2 of a pack; as task 5. Steps of the three are
taken in turn, so that a noisy machine disturbs them alike. The goal is a ratio of at most 1.03, the same for any
number of tasks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.pack import InputSpec
from packnet_deploy.training.network import PackedNetwork

BATCH, SIDE, CLASSES = 32, 32, 10
SPEC = InputSpec((3, SIDE, SIDE), (0.5,) * 3, (0.25,) * 3, resize=SIDE)


def build() -> nn.Sequential:
    """8.7 M weights; the wide linear layers make it a hard case: much to mask for little to compute."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 128, 256, 512):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = width
    layers += [nn.Flatten(), nn.Linear(2048, 3072), nn.ReLU(), nn.Linear(3072, 256), nn.ReLU(), nn.Linear(256, CLASSES)]
    return nn.Sequential(*layers)


def stepper(frozen_tasks: int | None) -> Callable[[], float]:
    """A function that takes one step and gives its seconds; None: plain SGD, nothing frozen or guarded."""
    torch.manual_seed(0)
    module = build()
    if frozen_tasks is None:
        for part in module.modules():  # as in every task after the first: normalisation in eval mode, biases fixed
            if isinstance(part, nn.BatchNorm2d):
                part.requires_grad_(False)
    network = PackedNetwork(module, str(len(module) - 1), SPEC)
    for task in range(frozen_tasks or 0):
        network.begin(f"task{task}", [str(i) for i in range(CLASSES)])
        network.prune(0.75)
        network.freeze()
    if frozen_tasks is not None:
        network.begin("measured", [str(i) for i in range(CLASSES)])
    optimizer = torch.optim.SGD(network.trainable_parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    if frozen_tasks is not None:
        network.guarded(optimizer)
    images, labels = torch.randn(BATCH, *SPEC.shape), torch.randint(0, CLASSES, (BATCH,))

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
    kinds = {"plain SGD": stepper(None), "task 2 (1 frozen)": stepper(1), "task 5 (4 frozen)": stepper(4)}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for index in range(options.steps + 5):
        for name, step in kinds.items():
            taken = step()
            if index >= 5:
                seconds[name].append(taken)
    print(f"{describe_machine()}; {torch.get_num_threads()} torch threads, torch {torch.__version__}")
    plain = seconds["plain SGD"]
    for name, taken in seconds.items():
        ratio = statistics.median(t / p for t, p in zip(taken, plain, strict=True))
        print(
            f"{name:<18} median {statistics.median(taken) * 1e3:7.2f} ms, ÷ plain: median of pairs {ratio:.3f}, "
            f"of medians {statistics.median(taken) / statistics.median(plain):.3f}, "
            f"of minima {min(taken) / min(plain):.3f}   (goal: at most 1.03)"
        )


if __name__ == "__main__":
    main()
