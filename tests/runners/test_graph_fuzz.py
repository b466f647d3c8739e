"""Mutated graphs, export folders and checkpoints: each is read as something, or refused in one line.

Fields of honest files become others, and bytes flip. A few in `make test`, PACKNET_MUTATIONS in `make fuzz`; a failure
says which seed makes its file again. What passes the list is tried out, many graphs in one process.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, NodeProto

from packnet_deploy.errors import ArtefactError, PackNetError
from packnet_deploy.export.api import export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack
from packnet_deploy.runners import tasks_in
from packnet_deploy.runners.allowed import OPERATORS
from packnet_deploy.runners.exported import expect_allowed, external_tensors
from packnet_deploy.runners.rehearsal import rehearse

pytestmark = pytest.mark.slow

MUTATIONS = int(os.environ.get("PACKNET_MUTATIONS", "200"))
SEED = os.environ.get("PACKNET_SEED") or str(time.time_ns())
AT_ONCE = 50
NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 255, 2**14, 2**20, 2**31 - 1, 2**40, 2**63 - 1)

Mutate = Callable[[ModelProto, random.Random], object]


def _node(model: ModelProto, chance: random.Random) -> NodeProto:
    return chance.choice(model.graph.node)


def _number(model: ModelProto, chance: random.Random) -> None:
    attributes = [a for node in model.graph.node for a in node.attribute]
    attribute = chance.choice(attributes)
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(NUMBERS)
    else:
        attribute.i = chance.choice(NUMBERS)


def _size(model: ModelProto, chance: random.Random) -> None:
    value = chance.choice([*model.graph.input, *model.graph.output])
    if value.type.tensor_type.shape.dim:
        chance.choice(value.type.tensor_type.shape.dim).dim_value = chance.choice(NUMBERS)


def _tensor(model: ModelProto, chance: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = chance.choice(model.graph.initializer)
    if tensor.dims and chance.random() < 0.5:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(NUMBERS)
    elif chance.random() < 0.5:
        tensor.data_type = chance.randrange(25)
    elif tensor.external_data:
        entry = chance.choice(tensor.external_data)
        entry.value = chance.choice(["", ".", "..", "/etc/passwd", "-1", "0", str(2**62), entry.value + "0"])
    else:
        tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]


def _input(model: ModelProto, chance: random.Random) -> None:
    node, other = _node(model, chance), _node(model, chance)
    if node.input and other.output:
        node.input[chance.randrange(len(node.input))] = chance.choice([*other.output, *other.input, "", "nowhere"])


MUTATORS: tuple[Mutate, ...] = (
    _number,
    _size,
    _tensor,
    _input,
    lambda model, chance: setattr(_node(model, chance), "op_type", chance.choice(sorted(OPERATORS))),
    lambda model, chance: setattr(_node(model, chance), "domain", chance.choice(["ai.onnx", "x", "com.microsoft"])),
    lambda model, chance: model.graph.node.pop(chance.randrange(len(model.graph.node))),
    lambda model, chance: model.graph.node.insert(0, _node(model, chance)),
    lambda model, chance: model.graph.node.append(_node(model, chance)),
    lambda model, chance: setattr(model.opset_import[0], "version", chance.choice(NUMBERS)),
    lambda model, chance: setattr(chance.choice(model.graph.input).type.tensor_type, "elem_type", chance.randrange(25)),
)


def mutated(original: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        data = bytearray(original)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
    model = onnx.load_model_from_string(original)
    for _ in range(chance.randint(1, 3)):
        if model.graph.node:
            chance.choice(MUTATORS)(model, chance)
    return model.SerializeToString()


def expect_one_line(error: BaseException, what: str) -> None:
    assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+", str(error)), (what, str(error))


def seeded(what: str, number: int) -> tuple[random.Random, str]:
    return random.Random(f"{SEED} {what} {number}"), f"{what}, number {number} (PACKNET_SEED={SEED})"


@pytest.mark.parametrize("what", ["pack", "dense", "sparse"])
def test_a_mutated_graph_is_run_or_refused(golden: Path, tmp_path: Path, what: str) -> None:
    pack = Pack.open(golden)
    if what != "pack":
        export_task(pack, "birds", tmp_path / "original.onnx", ExportOptions(layout=what))
    original = pack.graph_bytes() if what == "pack" else (tmp_path / "original.onnx").read_bytes()
    allowed: dict[str, bytes] = {}
    for number in range(MUTATIONS):
        chance, name = seeded(what, number)
        data, began = mutated(original, chance), time.process_time()
        try:
            expect_allowed(data, "graph")
            allowed[name] = data
        except ArtefactError as error:
            expect_one_line(error, name)
        assert time.process_time() - began < 5, name
        if len(allowed) == AT_ONCE or (allowed and number == MUTATIONS - 1):
            _expect_alive(allowed)
            allowed = {}


def _expect_alive(graphs: dict[str, bytes]) -> None:
    """ONNX Runtime runs them, or refuses one: those behind that one are tried out next."""
    left = list(graphs)
    while left:
        try:
            rehearse({name: graphs[name] for name in left})
            return
        except ArtefactError as error:
            expect_one_line(error, str(left))
            if "in a process of its own" in str(error):
                raise AssertionError(f"{error}: it passes the list") from error
            refused = next(name for name in left if str(error).startswith(name))
            left = left[left.index(refused) + 1 :]


def test_a_mutated_folder_is_read_or_refused(golden: Path, tmp_path: Path) -> None:
    """Of layout shared, where graphs, bank and owners lie in files of their own."""
    original = tmp_path / "original"
    export_shared(Pack.open(golden), ["birds", "flowers"], original, ExportOptions(layout="shared"))
    files = sorted(path.name for path in original.iterdir())
    for number in range(max(1, MUTATIONS // 4)):
        chance, name = seeded("folder", number)
        folder = Path(shutil.copytree(original, tmp_path / str(number)))
        file = folder / chance.choice(files)
        if file.suffix == ".onnx":
            file.write_bytes(mutated(file.read_bytes(), chance))
        else:
            file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])
        try:
            for path in tasks_in(folder).values():
                expect_allowed(path, str(path))
                external_tensors(path)
        except PackNetError as error:
            expect_one_line(error, name)
        shutil.rmtree(folder)


def test_a_mutated_checkpoint_is_read_or_refused(tmp_path: Path) -> None:
    """Its values, not its bytes: these have a checksum. Anything may stand where something else was."""
    torch = pytest.importorskip("torch")
    from packnet_deploy.training.checkpoint import FORMAT, Checkpoint

    identity = {"task": "birds", "lr": 0.1, "classes": ["a", "b"]}
    content = {"stage": 1, "fit": {"epoch": 2}, "network": {"w": torch.ones(3)}, "random": [], "notes": {}, "log": []}
    others = (None, 0, -1, "", "birds", [], [1], {}, {1: 2}, {"task": []}, torch.ones(1), float("nan"))
    for number in range(max(1, MUTATIONS // 4)):
        chance, name = seeded("checkpoint", number)
        saved = {"format": FORMAT, "identity": dict(identity), "content": dict(content)}
        part = chance.choice([saved, saved["identity"], saved["content"]])
        part[chance.choice(list(part))] = chance.choice(others)
        torch.save(saved, tmp_path / "checkpoint.pt")
        if chance.random() < 0.3:
            data = bytearray((tmp_path / "checkpoint.pt").read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (tmp_path / "checkpoint.pt").write_bytes(data)
        try:
            assert isinstance(Checkpoint(tmp_path / "checkpoint.pt", identity).load(), dict)
        except PackNetError as error:
            expect_one_line(error, name)
