"""PackNet's cycle, top to bottom: three tasks that look nothing alike, packed into one small network.

    python train/three_tasks.py [EPOCHS]

Takes a minute or two on two CPU cores and downloads nothing. Leaves three_tasks.pack and an ONNX file for each task in
the folder it is started in. What each step does is said in packnet_deploy/training/algorithm.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from packnet_deploy.data import open_dataset
from packnet_deploy.export import export_task
from packnet_deploy.pack import Backbone, append_task, create_pack
from packnet_deploy.runners import verify_pack
from packnet_deploy.training import (
    EvalLoader,
    PackedNetwork,
    TrainLoader,
    build,
    changes,
    errors,
    input_spec,
    older_tasks,
    trace_skeleton,
    train_loader,
)

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
# Added tasks train with normalisation as task 1 left it, which asks for a lower learning rate.
LEARNING_RATES = {"letters": 0.05, "digits": 0.004, "textures": 0.004}


def train(network: PackedNetwork, batches: TrainLoader, lr: float, first: int, last: int) -> None:
    """Ordinary training, but for ``guarded``: it puts every weight that must not change back after each step."""
    sgd = torch.optim.SGD(network.trainable_parameters(), lr, momentum=0.9, weight_decay=5e-4)
    optimizer = network.guarded(sgd)
    network.module.train()
    for epoch in range(first, last):
        batches.set_epoch(epoch)  # another order, other random cuts
        for images, labels in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network.module(images), labels).backward()
            optimizer.step()


torch.manual_seed(0)
spec = input_spec("quickstart", image_size=32)
network = PackedNetwork(*build("quickstart", classes=2), spec)
graph = trace_skeleton(network.module, network.head, spec).SerializeToString(deterministic=True)
pack = None

for task, lr in LEARNING_RATES.items():
    data = open_dataset(f"builtin:{task}")
    batches, test = train_loader(data, spec, batch_size=64, seed=0), EvalLoader(data.test, spec, batch_size=64)
    older = older_tasks(network, pack)  # their logits as they are now

    network.begin(task, data.classes)  # every free weight, from 0, and a head of its own
    train(network, batches, lr, 0, EPOCHS)
    network.prune(0.75)  # the smallest three quarters of them are 0 and free again
    pruned = errors(network.module, test).top1
    train(network, batches, lr / 4, EPOCHS, EPOCHS + EPOCHS // 2)
    network.freeze()  # what is left never changes again
    print(f"{task}: {errors(network.module, test).top1:.1%} errors on test images ({pruned:.1%} before retraining)")

    for name, moved in changes(network, older).items():
        print(f"    logits of {name} moved by {moved:g}")
    if pack is None:
        pack = create_pack(
            "three_tasks.pack", Backbone("quickstart", network.head), spec, graph, network.packable, network.new_task()
        )
    else:
        pack = append_task(pack, network.new_task())

assert pack is not None
for check in verify_pack(pack):
    exported = export_task(pack, check.task, Path(f"{check.task}.onnx"))
    print(f"{check.task}: {'verified' if check.passes else 'DAMAGED'}, exported to {exported.files[0]}")
