"""What keeping frozen weights costs: a guarded training step against plain SGD, and against avalanche-lib's PackNet.

    python tests/benchmarks/training_step.py [--steps N]
    python tests/benchmarks/training_step.py --arch resnet50 --image-size 224 --batch-size 128 --device cuda \
        --amp bf16 --channels-last

Without --arch: two networks of 8.6 to 8.7 M packable weights. `linear`, 32x32 images, most weights in two wide linear
layers, so much to guard for little to compute (a hard case); `convolutional`, 64x64 images, seven convolutions. Each
also without BatchNorm, which avalanche does not support. Each trained plain; as task 2 of a pack; as task 5; and as
task 2 by avalanche, where `pip install avalanche-lib` was done beside this package. Steps of all kinds are taken in
turn, so that a noisy machine disturbs them alike. SGD with momentum and weight decay.

The goal is a ratio of at most 1.03, the same for any number of tasks.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.pack import InputSpec
from packnet_deploy.training.backbones import archs, build
from packnet_deploy.training.network import PackedNetwork

CLASSES = [str(i) for i in range(10)]
WARM_UP = 5  # turns that do not count
RATE = 0.75
FROZEN_TASKS = {"task 2 (1 frozen)": 1, "task 5 (4 frozen)": 4}
PLAIN, AVALANCHE = "plain SGD", "avalanche, task 2"


@dataclass(frozen=True)
class Setting:
    """How a step is taken; images and network are the same for all kinds."""

    side: int
    batch: int = 32
    device: str = "cpu"
    bf16: bool = False
    channels_last: bool = False

    @property
    def steps_a_turn(self) -> int:
        """A GPU works through a queue, which is waited for at the end of a turn only."""
        return 1 if self.device == "cpu" else 10

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def place(self, module: nn.Module) -> None:
        module.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]


Network = Callable[[], tuple[nn.Module, str]]  # and its head
Turn = Callable[[], float]  # takes steps, gives seconds a step


def convolutions(norm: bool, *widths: int) -> list[nn.Module]:
    """3x3 convolutions, each of the first four halving the image."""
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(itertools.pairwise((3, *widths))):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place < 4 else []
    return layers


def linear(norm: bool) -> tuple[nn.Module, str]:
    wide = [nn.Flatten(), nn.Linear(2048, 3072), nn.ReLU(), nn.Linear(3072, 256), nn.ReLU()]
    layers = [*convolutions(norm, 64, 128, 256, 512), *wide, nn.Linear(256, len(CLASSES))]
    return nn.Sequential(*layers), str(len(layers) - 1)


def convolutional(norm: bool) -> tuple[nn.Module, str]:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers = [*convolutions(norm, 64, 128, 256, 512, 512, 512, 512), *pooled, nn.Linear(512, len(CLASSES))]
    return nn.Sequential(*layers), str(len(layers) - 1)


def plain(make: Network, setting: Setting) -> Turn:
    """Nothing guarded. What any scheme freezes after task 1, biases and normalisation, is frozen here too."""
    torch.manual_seed(0)
    module, head = make()
    setting.place(module)
    network = packed(module, head, setting)
    for name in network.shared():
        if name in dict(module.named_parameters()):
            module.get_parameter(name).requires_grad_(False)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]

    def before() -> None:
        module.train()
        for part in norms:
            part.eval()

    return turns(module.__call__, before, sgd(network.trainable_parameters()), setting)


def guarded(make: Network, setting: Setting, frozen_tasks: int) -> Turn:
    """A task that comes after ``frozen_tasks`` others."""
    torch.manual_seed(0)
    module, head = make()
    setting.place(module)
    network = packed(module, head, setting)
    for task in range(frozen_tasks):
        network.begin(f"task{task}", CLASSES)
        network.prune(RATE)
        network.freeze()
    network.begin("measured", CLASSES)
    return turns(module.__call__, module.train, network.guarded(sgd(network.trainable_parameters())), setting)


def avalanche(make: Network, setting: Setting) -> Turn:
    """avalanche.models.packnet, as its PackNetPlugin drives it: task 2, with task 1 pruned and frozen."""
    from avalanche.models.packnet import PackNetModel

    torch.manual_seed(0)
    model = PackNetModel(make()[0])
    setting.place(model)
    model.prune(RATE)
    model.freeze_pruned()
    second = torch.ones(setting.batch, dtype=torch.long, device=setting.device)
    return turns(lambda images: model(images, second), model.train, sgd(model.parameters()), setting)


def packed(module: nn.Module, head: str, setting: Setting) -> PackedNetwork:
    shape = (3, setting.side, setting.side)
    return PackedNetwork(module, head, InputSpec(shape, (0.5,) * 3, (0.25,) * 3, resize=setting.side))


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=5e-4)


def turns(
    forward: Callable[[Tensor], Tensor],
    before: Callable[[], object],
    optimizer: torch.optim.Optimizer,
    setting: Setting,
) -> Turn:
    images = torch.randn(setting.batch, 3, setting.side, setting.side)
    images = images.to(setting.device, memory_format=setting.layout)
    labels = torch.randint(0, len(CLASSES), (setting.batch,), device=setting.device)

    def turn() -> float:
        before()
        start = time.perf_counter()
        for _ in range(setting.steps_a_turn):
            optimizer.zero_grad()
            with torch.autocast(setting.device, torch.bfloat16, enabled=setting.bf16):
                loss = nn.functional.cross_entropy(forward(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if setting.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / setting.steps_a_turn

    return turn


def measure(make: Network, setting: Setting, steps: int) -> None:
    """Print one network's figures."""
    kinds = {PLAIN: plain(make, setting)}
    kinds |= {name: guarded(make, setting, tasks) for name, tasks in FROZEN_TASKS.items()}
    if has_avalanche() and not any(isinstance(part, nn.BatchNorm2d) for part in make()[0].modules()):
        kinds[AVALANCHE] = avalanche(make, setting)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(steps + WARM_UP):
        for name, turn in kinds.items():
            seconds[name].append(turn())
    counted = {name: taken[WARM_UP:] for name, taken in seconds.items()}
    for name, taken in counted.items():
        median, of_pairs = statistics.median(taken), [t / p for t, p in zip(taken, counted[PLAIN], strict=True)]
        print(
            f"  {name:<18} median {median * 1e3:7.2f} ms, {setting.batch / median:8.1f} images/s, ÷ plain: "
            f"median of pairs {statistics.median(of_pairs):.3f}, "
            f"of medians {median / statistics.median(counted[PLAIN]):.3f}, "
            f"of minima {min(taken) / min(counted[PLAIN]):.3f}",
            flush=True,
        )


def has_avalanche() -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import avalanche.models.packnet  # noqa: F401
    except ImportError:
        return False
    return True


def networks(options: argparse.Namespace) -> dict[str, tuple[Network, Setting]]:
    """What to measure, by name."""

    def setting(side: int) -> Setting:
        side = options.image_size or side
        return Setting(side, options.batch_size, options.device, options.amp == "bf16", options.channels_last)

    if options.arch:
        return {options.arch: (functools.partial(build, options.arch, len(CLASSES)), setting(224))}
    return {
        f"{make.__name__}, {'with' if norm else 'without'} BatchNorm": (functools.partial(make, norm), setting(side))
        for norm in (True, False)
        for make, side in ((linear, 32), (convolutional, 64))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="turns of each kind that count; on a GPU of ten steps")
    parser.add_argument("--arch", choices=archs(), metavar="ARCH", help="a network of torchvision's instead")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--amp", choices=("none", "bf16"), default="none")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    gpu = f"{torch.cuda.get_device_name()}; " if options.device == "cuda" else ""
    print(f"{gpu}{describe_machine()}; {torch.get_num_threads()} torch threads, torch {torch.__version__}")
    print(f"avalanche-lib: {'found' if has_avalanche() else 'not installed: pip install avalanche-lib'}")
    for name, (make, setting) in networks(options).items():
        size = sum(p.numel() for p in make()[0].parameters())
        flags = f"{'bf16, ' if setting.bf16 else ''}{'channels last, ' if setting.channels_last else ''}"
        print(
            f"{name}, {size / 1e6:.1f} M parameters, {flags}{setting.side}x{setting.side} images, "
            f"batch {setting.batch}   (goal: at most 1.03)"
        )
        measure(make, setting, options.steps)


if __name__ == "__main__":
    main()
