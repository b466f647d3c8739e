"""Plans for the stand-in TensorRT: ONNX graphs, each with the sidecar that a build would have written."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from export_networks import Network, pack_of, tiny_network
from onnx import helper
from stand_in import GPU, VERSION

from packnet_deploy.export.bind import bind_task
from packnet_deploy.export.deploy_bank import load_deploy_bank
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.selector import bind_selector
from packnet_deploy.export.target import Target
from packnet_deploy.export.write import model_buffers
from packnet_deploy.pack import Pack
from packnet_deploy.trt.bank import EngineBank, load_engine_bank
from packnet_deploy.trt.sidecar import Batch, PlanTask, Sidecar, SparseLayer, write_sidecar

SHARES = {"one": 0.4, "two": 0.5, "three": 0.5}
CLASSES = {"one": 4, "two": 2, "three": 3}


def growing_pack(path: Path) -> Pack:
    """Three tasks with heads of different widths; all but the first have normalisation of their own."""
    network = tiny_network()
    return pack_of(path, network, SHARES, classes=CLASSES, own=own_norms(network))


def own_norms(network: Network) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    norms = {name: array.shape for name, array in network.tensors.items() if name.startswith(("n1.", "n2."))}
    own = {
        task: {name: rng.uniform(0.1, 2, shape).astype(np.float32) for name, shape in norms.items()}
        for task in ("two", "three")
    }
    own["two"]["n1.weight"][:2] = (-1.5, 0)
    return own


def first_tasks(pack: Pack, count: int) -> Pack:
    """The pack as it was before it grew."""
    return replace(pack, manifest=replace(pack.manifest, tasks=pack.tasks[:count]))


def write_plan(
    path: Path,
    pack: Pack,
    switch: str,
    precision: str = "fp32",
    batch: Batch = Batch(1, 2, 4),  # noqa: B008
    image_size: int | None = None,
    classes: int = 0,
    task: str = "one",
    sparse_weights: bool = False,
) -> Sidecar:
    """Write plan and sidecar for every task of ``pack``; with switch none for ``task``."""
    target = ExportOptions(precision=precision, image_size=image_size).target(pack)
    bank = load_engine_bank(pack, target, classes)
    content = _graph(pack, switch, target, bank, task)
    path.write_bytes(content)
    tasks = (pack.task(task),) if switch == "none" else pack.tasks
    sidecar = Sidecar(
        flavour="tensorrt",
        tensorrt=VERSION,
        gpu=GPU,
        compute_capabilities=(GPU.compute_capability,),
        switch=switch,
        precision=precision,
        batch=batch,
        input=target.input,
        classes=tasks[0].classes if switch == "none" else bank.classes,
        fixed_sha256=bank.fixed_sha256,
        graph_sha256=pack.manifest.graph_sha256,
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        tasks=tuple(PlanTask(entry.name, entry.index, entry.classes, entry.sha256) for entry in tasks),
        weights=bank.weights if switch in ("refit", "bind") else (),
        norms=bank.norms,
        sparse_weights=sparse_weights,
        tf32=False,
        sparsity=tuple(SparseLayer(name, False, False) for name in bank.values),
        plan_sha256=hashlib.sha256(content).hexdigest(),
        plan_bytes=len(content),
    )
    write_sidecar(sidecar, path)
    return sidecar


def _graph(pack: Pack, switch: str, target: Target, bank: EngineBank, task: str) -> bytes:
    if switch == "none":
        bound = bind_task(pack, task, pack.load_task(task), target, "dense")
        return b"".join(model_buffers(bound.model, bound.tensors))
    if switch == "selector":
        bound = bind_selector(pack, load_deploy_bank(pack, target), target)
        return b"".join(model_buffers(bound.model, bound.tensors))
    for weight in bank.weights:
        bank.model.graph.input.append(
            helper.make_tensor_value_info(weight.name, bank.precision.data_type, weight.shape)
        )
    return b"".join(model_buffers(bank.model, bank.fixed))
