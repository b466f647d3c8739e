"""The network a task begins with: built anew, or taken from the pack it is added to. And what is refused before.

Everything that can be known before images are read is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.training import backbones
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import NETWORK_TASK, TrainOptions
from packnet_deploy.training.pretrained import expect_weights

DEFAULT_ARCH = "resnet18"
DEFAULT_WEIGHTS = "imagenet"
NETWORK_RATE = 0.3
NO_REFERENCE = "none"
RELEARNING: dict[str, Any] = {
    "retrain_epochs": 6,
    "retrain_lr": 1e-4,
    "schedule": "step",
    "retrain_milestones": (4,),
    "optimizer": "adamw",
    "weight_decay": 0.0,
}


def with_network_first(tasks: Sequence[TrainOptions], pack_path: Path, resume: bool = False) -> list[TrainOptions]:
    """The tasks of a new pack, behind a first one that is the pretrained network as it is, where that is asked for.
    The same again where a recipe goes on in a pack that began so.

    Pruning a pretrained network to a small data set throws away what later tasks need; keeping it as a task of its
    own, the smallest three tenths freed, does not, and every added task finds these where they were (start_values.py).
    The network's own task misses them: whoever needs it names images to relearn from, which is what the paper does
    with ImageNet itself, whose images are not at hand (docs/results.md has the figures).
    """
    first = tasks[0]
    pretrained = is_pretrained(first) and first.epochs > 0
    wanted = first.start or ("network" if pretrained and not (first.data or "").startswith("imagenet:") else "task")
    begun = pack_path.exists()
    goes_on = begun and (resume or len(tasks) > 1) and NETWORK_TASK in (t.name for t in Pack.open(pack_path).tasks[:1])
    if (
        (begun and not goes_on)
        or wanted == "task"
        or first.method not in ("packnet", "classifier-only", "head-and-norm")
    ):
        return list(tasks)
    if not pretrained:
        raise UsageError("--start network: expected pretrained --weights and --epochs above 0, got none of them")
    network = replace(
        first,
        task=NETWORK_TASK,
        data=None,
        start=None,
        layers="all",
        freeze_epochs=0,
        prune_rate=0.0,
        max_drop=None,
        tasks_to_come=None,
        last=False,
        layer_rates=(),
        score="magnitude",
        prune_steps=1,
        epochs=0,
        milestones=None,
        retrain_epochs=0,
        retrain_milestones=None,
    )
    if first.method == "packnet":  # else nobody will want freed weights
        network = replace(network, prune_rate=NETWORK_RATE)
        if first.reference not in (None, NO_REFERENCE):
            network = replace(network, reference=first.reference, **RELEARNING)
    return [network, replace(first, weights=None, pattern=None, start=None, reference=None), *tasks[1:]]


def is_pretrained(options: TrainOptions) -> bool:
    """Whether a new pack's network comes with weights."""
    return (options.weights or DEFAULT_WEIGHTS) != "none"


def relearns(options: TrainOptions) -> bool:
    """Whether the task is a network taken as it is that learns from itself after pruning.

    Raises:
        UsageError: images for that are named, but it is trained, or added to a pack.
    """
    if options.reference in (None, NO_REFERENCE):
        return False
    if options.epochs or options.data is not None:
        raise UsageError(
            f"--reference {options.reference}: it is for a new pack that begins with a pretrained network taken as it "
            f"is, which task {options.task!r} is not; leave it out"
        )
    return True


def check_addition(options: TrainOptions, pack: Pack) -> None:
    """Refuse, before anything is loaded, what cannot be added to an existing pack.

    Raises:
        UsageError: it contradicts the pack, or nothing is free there.
    """
    taken = str(pack.path)
    if options.pack is None and options.method != "individual":  # which names its packs itself
        taken += " (the only pack here, taken because --pack was left out)"
    if any(entry.name == options.task for entry in pack.tasks):
        raise UsageError(f"{taken}: task {options.task!r} is in it already; choose another name, or --pack NEW.pack")
    for name, given, own in (
        ("arch", options.arch, pack.backbone.arch),
        ("image-size", options.image_size, pack.input.shape[1]),
        ("weights", options.weights, _weights_of(pack)),
    ):
        if given is not None and given != own and pack.tasks:
            raise UsageError(
                f"--{name} {given}: expected {own}, as in {taken}; leave the option out, or make another pack: "
                "--pack NEW.pack"
            )
    if pack.tasks and options.epochs == 0:
        raise UsageError(
            f"--epochs 0: only a new pack's first task can be taken untrained, got {taken}; make another: "
            "--pack NEW.pack"
        )
    if options.data is None:
        raise UsageError(f"--data: expected the images of task {options.task!r}, got none")
    if options.layers != "classifier" and not any(layer.free for layer in pack.capacity()):
        raise UsageError(
            f"{taken}: expected free weights for another task, got none, its tasks own them all (packnet inspect "
            "shows who which); train them again into a new pack where they give more back (--pack NEW.pack and a "
            f"higher --prune-rate, or --tasks-to-come {len(pack.tasks)}), or train a head alone (--layers classifier)"
        )


def check_beginning(options: TrainOptions) -> None:
    """Refuse, before images are read, a network or weights that are not to be had."""
    arch, weights = options.arch or DEFAULT_ARCH, options.weights or DEFAULT_WEIGHTS
    backbones.expect_arch(arch)
    if weights != "none":
        expect_weights(arch, weights)


def _weights_of(pack: Pack) -> str:
    """What the pack's network started from, as its first task's report has it."""
    said = pack.header(pack.tasks[0].name).report.get("weights", DEFAULT_WEIGHTS) if pack.tasks else DEFAULT_WEIGHTS
    return said if isinstance(said, str) else DEFAULT_WEIGHTS


def new_network(options: TrainOptions) -> tuple[PackedNetwork, str, bool]:
    """The network of a new pack, its name, and whether the head it comes with is to be kept.

    Raises:
        UsageError: images or weights are needed that were not given.
    """
    arch = options.arch or DEFAULT_ARCH
    if options.data is None and (options.epochs or (options.retrain_epochs and not relearns(options))):
        raise UsageError(
            f"--data: expected the images of task {options.task!r}, got none; without images a network can only be "
            "taken as it is: --epochs 0 --retrain-epochs 0, or with the images of --reference for --retrain-epochs"
        )
    for asked, needed in (("--score taylor", options.score == "taylor"), ("--max-drop", options.max_drop is not None)):
        if needed and options.data is None:
            raise UsageError(f"{asked}: it takes the images of task {options.task!r}; give their --data")
    if options.epochs == 0 and options.weights == "none":
        raise UsageError("--epochs 0: it keeps the given network, so give its --weights (a file, or imagenet)")
    weights = options.weights or DEFAULT_WEIGHTS
    given = backbones.build_from(arch, weights)
    if options.epochs == 0 and given.untrained:
        raise UsageError(
            f"--epochs 0: --weights {weights} have no values for {given.untrained[0]} and {len(given.untrained) - 1} "
            "more tensors, which would stay random; begin with a task that trains them (--start task)"
        )
    spec = backbones.input_spec(arch, options.image_size, weights)
    packed = "depthwise" not in options.separate or options.method == "filter-pruning"  # whose filters make channels
    network = PackedNetwork(given.module, given.head, spec, options.pattern or "", depthwise=packed)
    return network, arch, options.epochs == 0 and given.head_is_trained


def network_of(pack: Pack) -> PackedNetwork:
    """The network of a pack, for another task.

    Raises:
        UsageError: it cannot be built here.
    """
    if pack.backbone.arch not in backbones.archs():
        raise UsageError(
            f"{pack.path}: its network {pack.backbone.arch!r} is not one that packnet train can build; "
            "add tasks from Python: PackedNetwork.resume(pack, module)"
        )
    width = pack.tasks[-1].classes if pack.tasks else 2
    module, _ = backbones.build(pack.backbone.arch, width)
    return PackedNetwork.resume(pack, module)


def own_classes(network: PackedNetwork, has_head: bool) -> tuple[str, ...]:
    """Class names for the outputs of a network taken as it is; a stand-in where its weights came without a head."""
    if not has_head:
        return ("untrained head",)
    width = network.head_width
    names = backbones.imagenet_class_names()
    return names if width == len(names) else tuple(f"class {i}" for i in range(width))
