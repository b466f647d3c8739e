"""Whether the training loader keeps the processor or the GPU busy: images/s it gives, and what training loses by it.

    python tests/benchmarks/loader.py [--images DIR] [--arch NAME] [--image-size PIXELS] [--batch-size N] ...

Both of its ways: a set kept decoded in memory, and one decoded by workers in every epoch. Each alone, then feeding a
network that trains, beside the same network trained on one batch that is always there. The three kinds of training
take turns, so that a noisy machine disturbs them alike. Without --images, smooth noise of 500x375 pixels as JPEG.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.data.splits import FileSplit, TaskData
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.training.loader import Batch, TrainLoader, train_loader

SUFFIXES = (".jpg", ".jpeg", ".png")
MADE = 64  # files


def made_images(folder: Path) -> list[str]:
    """Photo-like JPEG files: smooth shapes, a little grain."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(MADE):
        smooth = Image.fromarray(rng.integers(0, 256, (15, 20, 3), np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 6, (375, 500, 1))
        path = folder / f"{index:03}.jpg"
        Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def trainer(arch: str, device: torch.device, bf16: bool) -> Callable[[Iterable[Batch]], float]:
    """A function that trains on batches and gives images/s; a network of random weights, channels last."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(arch, weights=None)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)

    def train(batches: Iterable[Batch]) -> float:
        seen, start = 0, time.perf_counter()
        for images, labels in batches:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = module(images.contiguous(memory_format=torch.channels_last))
                loss = nn.functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            seen += len(labels)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return seen / (time.perf_counter() - start)

    return train


def alone(loader: TrainLoader) -> float:
    """Images/s of an epoch that nobody trains on."""
    start = time.perf_counter()
    seen = sum(len(labels) for _, labels in loader)
    return seen / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of images to read instead, at any depth")
    parser.add_argument("--arch", default="squeezenet1_1", help="torchvision's name")
    parser.add_argument("--image-size", type=int, default=128, help="pixels; resized to 8/7 of it before the cut")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--count", type=int, default=512, help="images an epoch; the files come again and again")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each kind that count")
    parser.add_argument("--augment", nargs="*", help="names of augmentations; by default crop and flip")
    parser.add_argument("--alone", action="store_true", help="only how fast the loader gives images")
    parser.add_argument("--workers", type=int, help="by default one per usable core")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = made_images(Path(folder))
        if options.images:
            files = sorted(str(p) for p in options.images.rglob("*") if p.suffix.lower() in SUFFIXES)
        measure(files, options)


def measure(files: list[str], options: argparse.Namespace) -> None:
    size, batch_size, device = options.image_size, options.batch_size, torch.device(options.device)
    spec = InputSpec((3, size, size), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), round(size * 8 / 7))
    paths = tuple(itertools.islice(itertools.cycle(files), options.count))
    split = FileSplit(np.zeros(len(paths), np.int64), paths)
    data = TaskData(("a", "b"), split, split, split, True, "files", "", "")
    kilobytes = statistics.mean(Path(path).stat().st_size for path in files) / 1e3
    gpu = f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    print(f"{describe_machine()}{gpu}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{len(files)} files of {kilobytes:.0f} kB on average, an epoch of {len(paths)} images, {size} pixels")

    start, busy = time.perf_counter(), time.process_time()
    augment = options.augment
    loaders = {"memory": train_loader(data, spec, batch_size, 0, None, device, memory_limit=1 << 40, augment=augment)}
    decoding, busy = len(paths) / (time.perf_counter() - start), (time.process_time() - busy) / len(paths)
    loaders["workers"] = train_loader(
        data, spec, batch_size, 0, options.workers, device, memory_limit=0, augment=augment
    )
    for loader in loaders.values():
        alone(loader)  # starts the workers
    given = {name: statistics.median(alone(loader) for _ in range(options.rounds)) for name, loader in loaders.items()}

    if options.alone:
        for name, speed in given.items():
            print(f"  {name:<14} alone {speed:8.0f} images/s")
        return

    train = trainer(options.arch, device, options.bf16)
    batch = next(iter(loaders["memory"]))
    kinds: dict[str, Iterable[Batch]] = {"one batch": [batch] * len(loaders["memory"]), **loaders}
    trained: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(options.rounds + 1):
        for name, batches in kinds.items():
            speed = train(batches)
            if turn:  # the first warms up
                trained[name].append(speed)
    bare = trained["one batch"]
    print(f"  {options.arch}, batches of {batch_size}, on one batch: {statistics.median(bare):8.0f} images/s")
    print(f"  decoded and resized in threads at {decoding:.0f} images/s, {busy * 1e3:.2f} ms of processor time each")
    for name, loader in loaders.items():
        ratio = statistics.median(fed / plain for fed, plain in zip(trained[name], bare, strict=True))
        label = f"{name} ({loader.workers})" if loader.workers else name
        print(
            f"  {label:<14} alone {given[name]:8.0f} images/s, training {statistics.median(trained[name]):8.0f} "
            f"images/s: {ratio:.2f} of the speed on one batch"
        )


if __name__ == "__main__":
    main()
