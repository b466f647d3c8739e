"""What the tasks of one ``packnet train`` share: folder, device, processes, how a training is set up; a task's images.

Which methods there are is methods/, how one task is trained into a pack task.py.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from packnet_deploy.data import ImageSplit, TaskData, open_dataset
from packnet_deploy.data.imageset import check_headers
from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack import InputSpec, Pack
from packnet_deploy.training.checkpoint import Checkpoint, StopRequest, read
from packnet_deploy.training.distributed import World
from packnet_deploy.training.fit import Watcher
from packnet_deploy.training.keeper import Keeper, Kept
from packnet_deploy.training.loader import EvalLoader, TrainLoader, train_loader
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import to_json
from packnet_deploy.training.start import own_classes
from packnet_deploy.training.train_folder import TrainFolder

_NOT_IN_RESULT = ("pack", "device", "workers")  # options that may differ when training goes on


@dataclass(frozen=True)
class TaskResult:
    """What training one task gave.

    Attributes:
        pack: the pack, grown.
        change: for every older task, the largest difference between its probe logits computed from the pack as it
            was and from the weights as they are now: 0.0, or training failed.
        skipped: images left out because they could not be read.
        warnings: what the user should know of how it went, each a line.
    """

    task: str
    pack: Pack
    change: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    """What the tasks of one command share.

    Attributes:
        resume: continue the task that was interrupted, if one was.
        tests: where the test images of tasks trained in this command are, to measure them again later.
    """

    folder: TrainFolder
    device: torch.device
    watcher: Watcher
    world: World
    stop: StopRequest = field(default_factory=StopRequest)
    resume: bool = False
    tests: dict[str, TrainOptions] = field(default_factory=dict)

    def place(self, module: nn.Module, options: TrainOptions) -> None:
        """Move a module to the session's device, laid out in memory as the options say."""
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        module.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    def keeper(self, name: str, network: Kept, identity: Mapping[str, Any]) -> Keeper:
        """What keeps a training of this session.

        Args:
            name: what the log and messages call it.
            identity: everything that determines its result, as JSON values, beside the number of processes.
        """
        checkpoint = Checkpoint(self.folder.checkpoint, {**identity, "processes": self.world.size})
        return Keeper(name, network, checkpoint, self.folder, self.world, self.stop)

    def own_dropout(self, seed: int) -> None:
        """Give each process random numbers of its own from here on; until now all had the same, and so one network."""
        if self.world.size > 1:
            torch.manual_seed(seed + self.world.rank * 7919)


@dataclass(frozen=True)
class Images:
    """A task's images as the loop wants them; all absent where a network is taken as it is, without data.

    Attributes:
        input: how they become the network's input.
    """

    classes: tuple[str, ...]
    input: InputSpec
    train: TrainLoader | None = None
    val: EvalLoader | tuple[()] = ()
    test: EvalLoader | tuple[()] = ()
    skipped: tuple[str, ...] = ()


def images_of(
    options: TrainOptions, data: TaskData | None, network: PackedNetwork, session: Session, has_head: bool = True
) -> Images:
    """Loaders over a task's images; this process's share of them."""
    if data is None:
        return Images(own_classes(network, has_head), network.spec)
    spec = network.spec.framed(options.framing, data.train.boxed)
    train = train_loader(
        data,
        spec,
        options.batch_size,
        options.seed,
        options.workers,
        session.device,
        share=(session.world.rank, session.world.size),
        augment=options.augment,
    )
    val, test = (eval_loader(split, options, network, session) for split in (data.val, data.test))
    return Images(data.classes, spec, train, val, test, data.skipped)


def eval_loader(split: ImageSplit, options: TrainOptions, network: PackedNetwork, session: Session) -> EvalLoader:
    """This process's share of a split of the task that ``options`` are of, as that task sees it."""
    share = np.arange(session.world.rank, len(split), session.world.size)
    spec = network.spec.framed(options.framing, split.boxed)
    return EvalLoader(split.subset(share), spec, options.batch_size, session.device)


def identity_of(options: TrainOptions) -> dict[str, Any]:
    """The options that determine a task's result, as JSON values."""
    return {key: value for key, value in to_json(options).items() if key not in _NOT_IN_RESULT}


def open_data(options: TrainOptions) -> TaskData | None:
    if options.data is None:
        return None
    data = open_dataset(options.data, options.seed, options.val_fraction, skip_bad_images=options.skip_bad_images)
    if not options.skip_bad_images:  # which has decoded them all
        check_headers(data)
    return data


def drop_stale(folder: TrainFolder, pack_path: Path) -> None:
    """Remove the checkpoint of a task that got into the pack just before a crash."""
    if folder.checkpoint.exists() and read(folder.checkpoint)["identity"].get("task") in task_names(pack_path):
        folder.checkpoint.unlink()


def task_names(pack_path: Path) -> list[str]:
    """The tasks of the pack at ``pack_path``; none if there is no pack yet."""
    return [entry.name for entry in Pack.open(pack_path).tasks] if pack_path.exists() else []


def seed(value: int) -> None:
    """Begin every generator anew."""
    random.seed(value)
    np.random.seed(value % (1 << 32))
    torch.manual_seed(value)


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` to a device; under torchrun each process gets a GPU of its own.

    Raises:
        EnvironmentFault: CUDA was asked for and PyTorch has none here.
    """
    import os

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EnvironmentFault("--device cuda: PyTorch finds no CUDA GPU here; use --device cpu, or check nvidia-smi")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise EnvironmentFault(
            f"--device cuda: process {local} of this machine expected a GPU of its own, got "
            f"{torch.cuda.device_count()} GPUs; start fewer processes (torchrun --nproc-per-node)"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
