"""Sidecars of plans that were never built: what everything but TensorRT itself can be tested with."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from packnet_deploy.pack import Pack
from packnet_deploy.trt.bank import EngineBank, load_engine_bank
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Batch, PlanTask, Sidecar, SparseLayer, write_sidecar


def write_plan(path: Path, pack: Pack, options: BuildOptions, **changes: object) -> tuple[Sidecar, EngineBank]:
    """A file that is no engine, with the sidecar it would have if ``packnet build`` had made it of ``pack``.

    Args:
        changes: fields of the sidecar to be different.

    Returns:
        The sidecar, and what Python gives such an engine.
    """
    target = options.target(pack)
    bank = load_engine_bank(pack, target, options.classes)
    path.write_bytes(b"not an engine")
    sidecar = Sidecar(
        flavour="tensorrt",
        tensorrt="10.13.3.9",
        gpu=None,
        compute_capabilities=("8.6", "8.9"),
        switch=options.switch,
        precision=options.precision,
        batch=Batch(options.min_batch, options.opt_batch, options.max_batch),
        input=target.input,
        classes=bank.classes,
        fixed_sha256=bank.fixed_sha256,
        graph_sha256=pack.manifest.graph_sha256,
        onnx_sha256="0" * 64,
        tasks=tuple(PlanTask(entry.name, entry.index, entry.classes, entry.sha256) for entry in pack.tasks),
        weights=bank.weights if options.switch in ("refit", "bind") else (),
        norms=bank.norms,
        sparse_weights=False,
        tf32=False,
        sparsity=tuple(SparseLayer(name, False, False) for name in bank.values),
        plan_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        plan_bytes=path.stat().st_size,
    )
    sidecar = replace(sidecar, **changes)
    write_sidecar(sidecar, path)
    return sidecar, bank
