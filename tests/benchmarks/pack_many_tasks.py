"""How a pack's cost grows with its tasks: ResNet-18 with 1, 10, 60 and 255 tasks, each pruned by 0.95.

    python tests/benchmarks/pack_many_tasks.py [--dir DIR] [--tasks 1 10 60 255]     (needs 0.5 GB of disk, PyTorch)

Nothing is trained: owners are drawn at random, which gives the masks that a magnitude criterion would, and the weights
are a random network's. One pack of the most tasks is made; the others are its first tasks. ``verify`` is held against
the least that it has to do: the bank, and one forward pass of the probe batch for every task. A task is verified and
run in turn, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torchvision

from packnet_deploy.bench.machine import describe_machine
from packnet_deploy.pack import (
    Backbone,
    InputSpec,
    NewTask,
    Pack,
    TaskEntry,
    append_task,
    bank_sha256,
    create_pack,
    file_sha256,
    probe_batch,
)
from packnet_deploy.pack.delta import write_delta
from packnet_deploy.pack.manifest import GRAPH_FILE, MANIFEST_FILE
from packnet_deploy.runners.session import open_session, run_session
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.trace import trace_skeleton

SPEC = InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256)
ARCH, HEAD = "resnet18", "fc"
KEPT = 0.05  # of what is free, by each task
CLASSES = 10


class Maker:
    """Tasks of a random network, one after the other."""

    def __init__(self, path: Path) -> None:
        network = PackedNetwork(torchvision.models.get_model(ARCH, weights=None), HEAD, SPEC)
        graph = trace_skeleton(network.module, HEAD, SPEC).SerializeToString(deterministic=True)
        self.pack = create_pack(path, Backbone(ARCH, HEAD), SPEC, graph, network.packable)
        self._made = 0
        self._rng = np.random.default_rng(0)
        self._params = network.packable
        state = {name: tensor.numpy() for name, tensor in network.module.state_dict().items()}
        self._weights = {param.name: state.pop(param.name) for param in self._params}
        self._dense = {param.name: np.zeros(param.shape, np.float32) for param in self._params}
        self._owners = {param.name: np.zeros(param.shape, np.uint8) for param in self._params}
        self._shared = {n: a for n, a in state.items() if a.dtype == np.float32 and not n.startswith(HEAD)}
        self._session, self._images = open_session(graph), probe_batch(SPEC)

    def next_task(self) -> NewTask:
        """A task that takes its share of every layer's free weights, and answers the probe batch with them."""
        self._made = index = self._made + 1
        for param in self._params:
            owner, dense = self._owners[param.name].reshape(-1), self._dense[param.name].reshape(-1)
            free = np.flatnonzero(owner == 0)
            mine = free[self._rng.random(len(free), dtype=np.float32) < KEPT]
            owner[mine] = index
            dense[mine] = self._weights[param.name].reshape(-1)[mine]
        head = {
            "weight": self._rng.standard_normal((CLASSES, 512), dtype=np.float32),
            "bias": np.zeros(CLASSES, np.float32),
        }
        feeds = {**self._dense, **self._shared, **{f"head.{name}": array for name, array in head.items()}}
        logits = run_session(self._session, {"images": self._images, **feeds})
        return NewTask(
            f"task{index}",
            tuple(map(str, range(CLASSES))),
            self._owners,
            self._dense,
            head,
            logits,
            bank_sha256(self._params, self._dense, self._owners, self._shared, index - 1),
            shared=self._shared if index == 1 else {},
        )

    def add(self, task: NewTask) -> None:
        """Add a task without reading all earlier ones again."""
        manifest = self.pack.manifest
        entry = TaskEntry(task.name, len(manifest.tasks) + 1, CLASSES, sha256="", bytes=0)
        file = self.pack.path / entry.file
        with open(file, "wb") as out:
            write_delta(out, task, manifest)
        manifest = manifest.with_task(replace(entry, sha256=file_sha256(file), bytes=file.stat().st_size))
        (self.pack.path / MANIFEST_FILE).write_bytes(manifest.to_bytes())
        self.pack = Pack(self.pack.path, manifest)


def first_tasks(pack: Pack, count: int, path: Path) -> Pack:
    """The pack as it was with ``count`` tasks; its files are the same ones."""
    (path / "deltas").mkdir(parents=True)
    manifest = replace(pack.manifest, tasks=pack.tasks[:count])
    for file in (GRAPH_FILE, *(entry.file for entry in manifest.tasks)):
        os.link(pack.path / file, path / file)
    (path / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return Pack.open(path)


def seconds(run: Callable[[], object], times: int = 1) -> float:
    def once() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return min(once() for _ in range(times))


def verify_and_run(pack: Pack) -> tuple[float, float]:
    """Seconds to verify a pack, and those of one forward pass for every task."""
    checks, session, images = verify_pack(pack), open_session(pack.graph_bytes()), probe_batch(pack.input)
    verify = forward = 0.0
    with pack.opened() as opened:
        for entry in opened.tasks:
            feeds = {"images": images, **opened.load_task(entry.name).tensors}
            forward += seconds(lambda feeds=feeds: run_session(session, feeds))
            verify += seconds(lambda: next(checks))
    return verify, forward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where to put the packs (default: a temporary folder)")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 10, 60, 255], help="how many tasks, rising")
    options = parser.parse_args()
    print(describe_machine())
    print("tasks      MB    bank  append  verify  bank + forward passes  ratio   (seconds)")
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        maker = Maker(folder / "all.pack")
        for count in options.tasks:
            while len(maker.pack.tasks) < count - 1:
                maker.add(maker.next_task())
            before, last = first_tasks(maker.pack, count - 1, folder / f"{count}.pack"), maker.next_task()
            append = seconds(lambda before=before, last=last: append_task(before, last))
            pack = Pack.open(before.path)
            maker.add(last)
            bank = seconds(pack.bank, 3)
            verify, forward = verify_and_run(pack)
            least = bank + forward
            size = sum(entry.bytes for entry in pack.tasks) / 1e6
            print(
                f"{count:5}  {size:6.1f}  {bank:6.2f}  {append:6.2f}  {verify:6.1f}  {least:21.1f}  "
                f"{verify / least:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
