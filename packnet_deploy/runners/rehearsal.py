"""A graph from elsewhere is tried out in a process of its own first, within limits of time and memory.

What a graph may hold (``allowed``) keeps out what is known to hang ONNX Runtime, to exhaust the memory or to end the
process. What is not known does so over there, and is one line here. That process is no sandbox: what this one may read
and write, it may. What this process has written itself is not rehearsed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from packnet_deploy.errors import ArtefactError, reason
from packnet_deploy.fresh import Limits, NoAnswer, Raised, in_fresh_process
from packnet_deploy.runners.exported import expect_allowed
from packnet_deploy.runners.sizes import Cost
from packnet_deploy.runners.trial import Refusal, Sent, first_refusal

SECONDS = 5  # of processor time, to start and for all that is small
WORK_IN_A_SECOND = 10**9  # multiply-adds, on a slow machine
ELEMENTS_IN_A_SECOND = 2 * 10**7  # read, folded, laid out for the processor
PATIENCE = 12  # times the processor time: the machine may have other things to do
MEMORY = 4 << 30  # bytes of addresses that ONNX Runtime takes to begin with; most of them it never uses
BYTES_FOR_AN_ELEMENT = 16  # in the file, in memory, folded, laid out

_passed: set[bytes] = set()  # hashes of models in memory: a pack's graph is asked for with every export


def rehearse(models: Mapping[str, Path | bytes]) -> None:
    """Hold each model against what a graph may hold, then load it and run it once, out of harm's way.

    Args:
        models: by what errors call them: files, or serialised models without external data.

    Raises:
        ArtefactError: it holds something else; ONNX Runtime refuses it, cannot run it, or does not come back from it.
        EnvironmentFault: there is no such file, or it cannot be read.
    """
    costs = {name: expect_allowed(model, name) for name, model in models.items() if not _has_passed(model)}
    if not costs:
        return
    try:
        refusal = _tried_out([models[name] for name in costs], list(costs.values()))
    except (NoAnswer, Raised) as error:
        if len(costs) > 1:  # which of them was it?
            for name in costs:
                rehearse({name: models[name]})
        name = next(iter(costs))
        raise ArtefactError(f"{name}: tried out in a process of its own: {reason(error)}; do not use it") from error
    if refusal is not None:
        import onnxruntime

        name = list(costs)[refusal["number"]]
        raise ArtefactError(f"{name}: ONNX Runtime {onnxruntime.__version__} refuses it: {refusal['said']}")
    _passed.update(_sha256(model) for model in map(models.__getitem__, costs) if isinstance(model, bytes))


def _tried_out(models: list[Path | bytes], costs: list[Cost]) -> Refusal | None:
    seconds = SECONDS + sum(cost.work / WORK_IN_A_SECOND + cost.elements / ELEMENTS_IN_A_SECOND for cost in costs)
    memory = MEMORY + BYTES_FOR_AN_ELEMENT * max(cost.elements for cost in costs)
    limits = Limits(int(seconds), memory)
    answer: Refusal | None = in_fresh_process(first_refusal, [_sent(m) for m in models], PATIENCE * seconds, limits)
    return answer


def _sent(model: Path | bytes) -> Sent:
    if isinstance(model, Path):
        return {"path": str(model), "model": ""}
    return {"path": "", "model": base64.b64encode(model).decode()}


def _has_passed(model: Path | bytes) -> bool:
    return isinstance(model, bytes) and _sha256(model) in _passed


def _sha256(model: bytes) -> bytes:
    return hashlib.sha256(model).digest()
