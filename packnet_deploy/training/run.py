"""``packnet train``, one task: data, network, train → prune → retrain → freeze, and the pack grown by it.

Accuracies on the way are of the validation images; the test images give one final figure and decide nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from packnet_deploy.data import TaskData, open_dataset
from packnet_deploy.errors import CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.pack import Backbone, LayerCapacity, Pack, append_task, create_pack, probe_batch
from packnet_deploy.pack.manifest import check_task_name
from packnet_deploy.training import backbones
from packnet_deploy.training.fit import Schedule, Watcher, accuracy, fit
from packnet_deploy.training.loader import EvalLoader, TrainLoader, train_loader
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.trace import trace_skeleton

DEFAULT_ARCH = "resnet18"
DEFAULT_WEIGHTS = "imagenet"


@dataclass(frozen=True)
class TaskResult:
    """What training one task gave. Accuracies 0..1, NaN where there were no images to measure on.

    Attributes:
        before_pruning, after_pruning, after_retraining: on the validation images.
        test: on the test images, once, at the end.
        change: for every older task, the largest difference between its probe logits computed from the pack as it
            was and from the weights as they are now: 0.0, or training failed.
        free: weights still free, of ``weights``.
    """

    task: str
    pack: Pack
    before_pruning: float
    after_pruning: float
    after_retraining: float
    test: float
    free: int
    weights: int
    delta_bytes: int
    change: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Images:
    """A task's images as the loop wants them; all absent where a network is taken as it is, without data."""

    classes: tuple[str, ...]
    train: TrainLoader | None = None
    val: EvalLoader | tuple[()] = ()
    test: EvalLoader | tuple[()] = ()


def train_task(options: TrainOptions, pack_path: Path, watcher: Watcher) -> TaskResult:
    """Train one task into the pack at ``pack_path``, which is made if there is none. All or nothing.

    Raises:
        UsageError: the request contradicts the pack, or no weights are free.
        EnvironmentFault: data, weights or device are not to be had.
        CheckFailed: the loss is not finite, or an earlier task changed.
    """
    check_task_name(options.task)
    device = pick_device(options.device)
    pack = Pack.open(pack_path) if pack_path.exists() else None
    if pack is not None:
        _check_addition(options, pack)
    _seed(options.seed)
    data = open_dataset(options.data, seed=options.seed) if options.data is not None else None
    if pack is None:
        network, arch = _new_network(options)
    else:
        network, arch = _network_of(pack), pack.backbone.arch
    network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    keep_head = pack is None and options.epochs == 0
    images = _images(options, data, network, device)
    older = _older_tasks(network, pack)
    network.begin(options.task, images.classes, keep_head=keep_head)
    graph = trace_skeleton(network.module, network.head, network.spec) if pack is None else None

    _fit(network, options, images, watcher, "train")
    before = accuracy(network.module, images.val)
    network.prune(options.prune_rate)
    after = accuracy(network.module, images.val)
    _fit(network, options, images, watcher, "retrain")
    network.freeze(options.value_dtype)  # rounds; what is measured below is what the pack will hold
    final, test = accuracy(network.module, images.val), accuracy(network.module, images.test)

    report = {"prune_rate": options.prune_rate, "epochs": options.epochs, "retrain_epochs": options.retrain_epochs}
    report |= {"lr": options.lr, "batch_size": options.batch_size, "seed": options.seed}
    accuracies = {"before_pruning": before, "after_pruning": after, "after_retraining": final, "test": test}
    report |= {f"accuracy_{name}": round(value, 6) for name, value in accuracies.items() if not math.isnan(value)}
    change = _changes(network, older)
    new = network.new_task(report)
    if pack is None:
        assert graph is not None
        backbone = Backbone(arch, network.head)
        grown = create_pack(
            pack_path, backbone, network.spec, graph.SerializeToString(deterministic=True), network.packable, new
        )
    else:
        grown = append_task(pack, new)
    return TaskResult(
        task=options.task,
        pack=grown,
        **accuracies,
        free=sum(layer.free for layer in network.capacity),
        weights=grown.manifest.weights,
        delta_bytes=grown.tasks[-1].bytes,
        change=change,
    )


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` to a device.

    Raises:
        EnvironmentFault: CUDA was asked for and PyTorch has none here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault("--device cuda: PyTorch finds no CUDA GPU here; use --device cpu, or check nvidia-smi")
    return torch.device(name)


def capacity_table(layers: tuple[LayerCapacity, ...]) -> str:
    """Who owns how much, as plain lines: for the message that nothing is left."""
    width = max(len(layer.name) for layer in layers)
    rows = [
        f"{layer.name:<{width}}  {layer.size:>12,} weights  {layer.free:>12,} free  owned: "
        + " ".join(f"{count:,}" for count in layer.owned)
        for layer in layers
    ]
    return "\n".join(rows)


def _check_addition(options: TrainOptions, pack: Pack) -> None:
    """Refuse, before anything is loaded, what cannot be added to an existing pack."""
    if any(entry.name == options.task for entry in pack.tasks):
        raise UsageError(f"{pack.path}: task {options.task!r} is in it already; choose another name, or another pack")
    for name, given, own in (
        ("arch", options.arch, pack.backbone.arch),
        ("image-size", options.image_size, pack.input.shape[1]),
        ("weights", options.weights, None),
    ):
        if given is not None and given != own and pack.tasks:
            holds = f"the pack's is {own}" if own is not None else "the pack has its own"
            raise UsageError(f"--{name} {given}: {pack.path} exists and {holds}; leave the option out")
    if pack.tasks and options.epochs == 0:
        raise UsageError(f"--epochs 0: only a new pack's first task can be taken untrained; {pack.path} exists")
    if options.data is None:
        raise UsageError(f"--data: expected the images of task {options.task!r}, got none")


def _new_network(options: TrainOptions) -> tuple[PackedNetwork, str]:
    arch = options.arch or DEFAULT_ARCH
    if options.data is None and (options.epochs or options.retrain_epochs):
        raise UsageError(
            f"--data: expected the images of task {options.task!r}, got none; without images a network can only be "
            "taken as it is: --epochs 0 --retrain-epochs 0"
        )
    if options.epochs == 0 and options.weights == "none":
        raise UsageError("--epochs 0: it keeps the given network, so give its --weights (a file, or imagenet)")
    given = backbones.build_from(arch, options.weights or DEFAULT_WEIGHTS)
    if options.epochs == 0 and not given.head_is_trained:
        raise UsageError(f"--epochs 0: it keeps the given network, but {options.weights} holds no {given.head}.weight")
    return PackedNetwork(given.module, given.head, backbones.input_spec(arch, options.image_size)), arch


def _network_of(pack: Pack) -> PackedNetwork:
    if pack.backbone.arch not in backbones.archs():
        raise UsageError(
            f"{pack.path}: its network {pack.backbone.arch!r} is not one that packnet train can build; "
            "add tasks from Python: PackedNetwork.resume(pack, module)"
        )
    width = pack.tasks[-1].classes if pack.tasks else 2
    module, _ = backbones.build(pack.backbone.arch, width)
    network = PackedNetwork.resume(pack, module)
    if network.state.free == 0:
        raise UsageError(
            f"{pack.path}: no free weights are left for another task; prune earlier tasks harder.\n"
            + capacity_table(network.capacity)
        )
    return network


def _images(options: TrainOptions, data: TaskData | None, network: PackedNetwork, device: torch.device) -> _Images:
    if data is None:
        return _Images(_own_classes(network))
    batch = options.batch_size
    return _Images(
        classes=data.classes,
        train=train_loader(data, network.spec, batch, options.seed, options.workers, device),
        val=EvalLoader(data.val, network.spec, batch, device),
        test=EvalLoader(data.test, network.spec, batch, device),
    )


def _own_classes(network: PackedNetwork) -> tuple[str, ...]:
    """Class names for the outputs of a network taken as it is."""
    width = network.head_width
    names = backbones.imagenet_class_names()
    return names if width == len(names) else tuple(f"class {i}" for i in range(width))


def _schedule(options: TrainOptions, task: int, phase: str) -> Schedule:
    """The paper's protocol (section 4): a tenth of the learning rate from half-way on.

    Retraining does the same for task 1, which loses most of what it is when it is pruned, and goes at a tenth
    throughout for an added task, which loses little.
    """
    epochs = options.epochs if phase == "train" else options.retrain_epochs
    gentle = phase == "retrain" and task > 1
    lr, drop_after = (options.lr / 10, None) if gentle else (options.lr, epochs // 2 or None)
    return Schedule(epochs, lr, drop_after, options.momentum, options.weight_decay)


def _fit(network: PackedNetwork, options: TrainOptions, images: _Images, watcher: Watcher, phase: str) -> None:
    schedule = _schedule(options, network.state.task, phase)
    if schedule.epochs == 0:
        return
    assert images.train is not None  # _new_network and _check_addition saw to it
    first_epoch = options.epochs if phase == "retrain" else 0
    name = f"{options.task}: {phase}"
    fit(network, schedule, images.train, images.val, watcher, phase=name, first_epoch=first_epoch)


@dataclass(frozen=True)
class _Older:
    """An older task as the pack on disk has it: its index, its head, its answer to the probe batch."""

    index: int
    head: dict[str, np.ndarray[Any, Any]]
    logits: np.ndarray[Any, Any]


def _older_tasks(network: PackedNetwork, pack: Pack | None) -> dict[str, _Older]:
    """Every task of the pack, one materialised at a time."""
    older = {}
    for entry in pack.tasks if pack else ():
        assert pack is not None
        tensors = pack.load_task(entry.name).tensors
        head = {name: values for name, values in tensors.items() if name.startswith("head.")}
        older[entry.name] = _Older(entry.index, head, network.logits(probe_batch(network.spec), tensors))
    return older


def _changes(network: PackedNetwork, older: Mapping[str, _Older]) -> dict[str, float]:
    """How far each older task's probe logits have moved, computed from the live weights.

    Raises:
        CheckFailed: one has moved at all.
    """
    changes = {}
    for name, task in older.items():
        now = network.logits(probe_batch(network.spec), network.as_task(task.index) | task.head)
        changes[name] = float(np.abs(now - task.logits).max())
        if changes[name] != 0:
            raise CheckFailed(
                f"task {name!r}: expected its logits unchanged, they moved by {changes[name]:g}; "
                "the pack is left as it was"
            )
    return changes


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)
