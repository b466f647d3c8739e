"""Everything that is checked of a plan: (1) to (5) before it is deserialised, which is when its code starts to run.

(1) TensorRT: its flavour, and its exact version. (2) The GPU's compute capability. (3) The pack: backbone, input, and
that the plan's tasks are its first ones. (4) Tasks that came later: their heads fit, they share what the plan has for
good, and no layer whose kernel may be sparse has lost its pattern. (5) The plan's own bytes.

(6) After a build on a GPU, every task's probe logits from the engine, held against the pack's own. Refitting has known
defects (a lost Gemm bias, weights left out), and this is where they are found.

Hashes find damage and mix-ups, not malice: docs/security.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from packnet_deploy.errors import ArtefactError, CheckFailed
from packnet_deploy.export.deploy_bank import NO_RANK
from packnet_deploy.export.precision import PRECISIONS
from packnet_deploy.export.skeleton import expected_logits
from packnet_deploy.export.target import Target
from packnet_deploy.pack.directory import Pack
from packnet_deploy.pack.inputs import probe_batch
from packnet_deploy.pack.pattern import fits, obeys
from packnet_deploy.pack.reading import open_regular
from packnet_deploy.runners.comparison import Difference, compare
from packnet_deploy.runners.contract import Float32Array
from packnet_deploy.trt.bank import EngineBank, load_engine_bank
from packnet_deploy.trt.flavour import Flavour
from packnet_deploy.trt.sidecar import Gpu, Sidecar, no_plan

SWITCHED_BY_WEIGHTS = ("refit", "bind")

_AGAIN = "build the plan again"
_RESTORE = f"plan and sidecar are not of one build, or damaged: restore both, or {_AGAIN}"


def check_plan(plan: Path, sidecar: Sidecar, pack: Pack, flavour: Flavour, gpu: Gpu) -> bytes:
    """Checks 1, 2, 3 and 5, and of 4 what pack.json tells.

    Returns:
        The plan's bytes, the very ones that were checked: deserialise these.

    Raises:
        ArtefactError: a check failed; names the file, both values and what to do.
        EnvironmentFault: the plan cannot be read.
    """
    check_machine(plan, sidecar, flavour, gpu)
    _check_pack(plan, sidecar, pack)
    return read_plan(plan, sidecar)


def read_plan(plan: Path, sidecar: Sidecar) -> bytes:
    """Check 5: size and hash.

    Raises:
        ArtefactError: it has another size or hash than the sidecar says.
        EnvironmentFault: it is not there, or cannot be read.
    """
    with open_regular(plan, no_plan(plan)) as file:
        size = plan.stat().st_size
        if size != sidecar.plan_bytes:
            raise _mismatch(plan, "size in bytes", sidecar.plan_bytes, size, _RESTORE)
        content = file.readall()
    got = hashlib.sha256(content).hexdigest()
    if got != sidecar.plan_sha256:
        raise _mismatch(plan, "sha256", sidecar.plan_sha256, got, _RESTORE)
    return content


def load_checked_bank(plan: Path, sidecar: Sidecar, pack: Pack) -> EngineBank:
    """The bank of every task of ``pack`` as a plan that is switched by its weights takes it; check 4.

    Raises:
        ArtefactError: a task does not fit the plan, or the pack is damaged.
        UsageError: a value of a later task does not fit the plan's precision.
    """
    switched = [weight.name for weight in sidecar.weights]
    bank = load_engine_bank(pack, target_of(sidecar), sidecar.classes, switched)
    check_bank(plan, sidecar, bank)
    return bank


def check_bank(plan: Path, sidecar: Sidecar, bank: EngineBank) -> None:
    """Check 4, of a bank that was loaded before.

    Raises:
        ArtefactError: a task does not fit the plan.
    """
    for expected, got in zip(sidecar.weights, bank.weights, strict=False):
        if expected != got:
            raise _mismatch(plan, f"weight '{got.name}'", expected, got, _AGAIN)
    if len(sidecar.weights) != len(bank.weights):
        raise _mismatch(plan, "weights", len(sidecar.weights), len(bank.weights), _AGAIN)
    if sidecar.fixed_sha256 != bank.fixed_sha256:
        what = "fixed_sha256 (the weights that are in the plan for good)"
        raise _mismatch(plan, what, sidecar.fixed_sha256, bank.fixed_sha256, _AGAIN)
    _check_sparsity(plan, sidecar, bank)


def target_of(sidecar: Sidecar) -> Target:
    """What the plan was made for: the pack gives its weights, and the logits it must give, for this again."""
    return Target(PRECISIONS[sidecar.precision], sidecar.input)


class Switchable(Protocol):
    """What is asked here: an ``Engine``, or whatever stands in for one."""

    def set_task(self, name: str) -> None: ...
    def infer(self, images: Float32Array) -> Float32Array: ...


def engine_tolerance(sidecar: Sidecar, pack: Pack) -> float:
    """By how much of their scale an engine's logits may differ from the pack's.

    In fp32 and bf16 tensor cores add up in float32, as ONNX Runtime does, and the precision's own tolerance holds. In
    fp16 TensorRT may add up in fp16 too, which costs each layer as much again; such errors are of either sign, so over
    a network they grow with the root of its depth. A quarter of that comes on top of the precision's own: more than
    such sums cost where they are simulated (tests/benchmarks/fp16_accumulation.py), which no GPU has confirmed yet.
    TF32 rounds factors as fp16 does.
    """
    own = PRECISIONS[sidecar.precision].tolerance
    if sidecar.precision == "fp16":
        return own * (1 + math.sqrt(len(pack.packable)) / 4)
    return max(own, PRECISIONS["fp16"].tolerance) if sidecar.tf32 else own


def verify_engine(
    engine: Switchable, pack: Pack, tasks: Sequence[str], target: Target, plan: Path, rtol: float | None = None
) -> dict[str, Difference]:
    """Check 6: switch to every task, and once more to the first; a switch back must give the same again.

    Args:
        target: what the engine was made for.
        rtol: where logits may differ by another share of their scale than its precision explains.

    Returns:
        How far the engine's logits lie from the pack's, by task.

    Raises:
        CheckFailed: a task's differ by more than that explains; names plan and task.
    """
    images = probe_batch(target.input)
    with pack.opened(tasks) as opened:
        logits = expected_logits(opened, tasks, target)
    rtol = target.precision.tolerance if rtol is None else rtol
    differences: dict[str, Difference] = {}
    for task in (*tasks, tasks[0]):
        engine.set_task(task)
        difference = compare(engine.infer(images), logits[task], rtol)
        if not difference.passes:
            back = " when switched back to" if task in differences else ""
            raise CheckFailed(
                f"{plan}: task '{task}'{back}: the engine gives other logits than the pack, do not use it: "
                f"{difference}; build it with another --switch, or where that is the rounding you expect, allow it "
                "with --rtol"
            )
        differences.setdefault(task, difference)
    return differences


def check_machine(plan: Path, sidecar: Sidecar, flavour: Flavour, gpu: Gpu) -> None:
    """Checks 1 and 2.

    Raises:
        ArtefactError: the plan is of another TensorRT, or for other GPUs.
    """
    if sidecar.flavour != flavour.name:
        raise _mismatch(plan, "backend", sidecar.flavour, flavour.name, f"use {sidecar.flavour}, or {_AGAIN}")
    if sidecar.tensorrt != flavour.version:
        do = f"install {flavour.name}=={sidecar.tensorrt}, or {_AGAIN}"
        raise _mismatch(plan, f"version of {flavour.name}", sidecar.tensorrt, flavour.version, do)
    if gpu.compute_capability not in sidecar.compute_capabilities:
        expected = ", ".join(sidecar.compute_capabilities)
        got = f"{gpu.compute_capability} ({gpu.name})"
        raise _mismatch(plan, "compute capability", expected, got, f"{_AGAIN} for this GPU")


def _check_pack(plan: Path, sidecar: Sidecar, pack: Pack) -> None:
    give = f"{pack.path} is not the pack it was built from, nor grown from that; give that one, or {_AGAIN}"
    if sidecar.graph_sha256 != pack.manifest.graph_sha256:
        what = "graph_sha256 (the pack's backbone)"
        raise _mismatch(plan, what, sidecar.graph_sha256, pack.manifest.graph_sha256, give)
    expected = pack.input if sidecar.input == pack.input else pack.input.sized(sidecar.input.shape[1])
    if sidecar.input.sha256 != expected.sha256:
        what = "input_sha256 (image size and normalisation)"
        raise _mismatch(plan, what, sidecar.input.sha256, expected.sha256, give)
    for task in sidecar.tasks:
        there = pack.tasks[task.index - 1] if 1 <= task.index <= len(pack.tasks) else None
        expected_task = (task.name, task.index, task.classes, task.sha256)
        got_task = (there.name, there.index, there.classes, there.sha256) if there else None
        if expected_task != got_task:
            raise _mismatch(plan, f"task {task.index} of the pack", _shown(expected_task), _shown(got_task), give)
    if sidecar.switch in SWITCHED_BY_WEIGHTS:
        for entry in pack.tasks:
            if entry.classes > sidecar.classes:
                raise ArtefactError(
                    f"{plan}: task '{entry.name}': expected at most {sidecar.classes} classes, as many logits as the "
                    f"plan has, got {entry.classes}; build the plan again (--classes leaves room for later tasks)"
                )


def _check_sparsity(plan: Path, sidecar: Sidecar, bank: EngineBank) -> None:
    """A sparse kernel drops what is not in the pattern; TensorRT refuses such weights only while it validates them."""
    if not sidecar.sparse_weights:
        return
    for layer in sidecar.sparsity:
        ranks = bank.ranks[layer.name]
        if layer.eligible and not (fits(ranks.shape) and obeys(ranks != NO_RANK)):
            added = [task.entry.name for task in bank.tasks if task.entry.index > len(sidecar.tasks)]
            raise ArtefactError(
                f"{plan}: weight '{layer.name}': expected at most 2 of 4 inputs in use, since its kernel may be "
                f"sparse, got more with the tasks added since ({', '.join(added)}); build the plan again"
            )


def _shown(task: tuple[str, int, int, str] | None) -> str:
    return "none" if task is None else f"'{task[0]}' of {task[2]} classes, sha256 {task[3]}"


def _mismatch(plan: Path, what: str, expected: object, got: object, do: str) -> ArtefactError:
    return ArtefactError(f"{plan}: {what}: expected {expected}, got {got}; {do}")
