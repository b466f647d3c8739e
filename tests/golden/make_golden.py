"""Writes tests/golden/three_tasks.pack and expected.json: `python tests/golden/make_golden.py`.

A hand-made SqueezeNet-like network (convolutions only, the head a 1x1 convolution before ReLU and pooling), every
size odd, one BatchNorm, one bfloat16 delta, one task with a bias and an input description of its own, class names
beyond ASCII. Weights and owners come from integer arithmetic, the graph from onnx.helper, the probe logits from
ONNX's reference evaluator: nothing here passes through the code that the pack is used to test, its writer aside. Run
it again only when docs/format.md changes; tests hold Python and C++ readers to the committed bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from packnet_deploy.pack import (
    Backbone,
    InputSpec,
    NewTask,
    ParamSpec,
    append_task,
    bank_sha256,
    create_pack,
    probe_batch,
)

HERE = Path(__file__).parent
SPEC = InputSpec(shape=(3, 17, 19), mean=(0.5, 0.25, 0.125), std=(0.25, 0.5, 0.75), resize=19)
OWN_INPUT = replace(SPEC, mean=(0.5, 0.5, 0.5), framing="pad", fill=128, boxes=True, exif_orientation=False)
PACKABLE = (
    ParamSpec("conv1.weight", (5, 3, 3, 3)),
    ParamSpec("fire.squeeze.weight", (3, 5, 1, 1)),
    ParamSpec("fire.expand.weight", (7, 3, 3, 3)),
)
TASKS = {
    "shapes": ("disc", "square", "triangle"),
    "birds": ("Rotkehlchen", "Mönchsgrasmücke"),
    "flowers": ("daffodil", "snowdrop", "crocus", "tulip", "perce-neige d'été"),
}
BFLOAT16_TASK = "birds"
OWN_BIAS_TASK = "flowers"
OWN_INPUT_TASK = "flowers"


def hashed(count: int, salt: int) -> npt.NDArray[np.uint32]:
    """``count`` pseudo-random 32-bit integers: one xorshift-multiply of the index."""
    state = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(salt * 40503)
    state = (state ^ (state >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return state ^ (state >> np.uint32(13))


def numbers(shape: tuple[int, ...], salt: int, low: float = -0.5, high: float = 0.5) -> npt.NDArray[np.float32]:
    """Multiples of 1/64 between low and high: exact in float32, and most of them in bfloat16."""
    steps = int((high - low) * 64)
    return (low + (hashed(int(np.prod(shape)), salt) % steps) / 64).astype(np.float32).reshape(shape)


def graph() -> bytes:
    """The weight-free graph: every parameter a typed input."""

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    inputs = [value("images", "batch", *SPEC.shape)]
    inputs += [value(param.name, *param.shape) for param in PACKABLE]
    inputs += [value(f"norm.{part}", 5) for part in ("weight", "bias", "running_mean", "running_var")]
    inputs += [value("fire.squeeze.bias", 3), value("fire.expand.bias", 7)]
    inputs += [value("head.weight", "classes", 7, 1, 1), value("head.bias", "classes")]
    norm = [f"norm.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Conv", ["images", "conv1.weight"], ["c1"], name="conv1", strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c1", *norm], ["n1"], name="norm", epsilon=1e-5),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "fire.squeeze.weight", "fire.squeeze.bias"], ["c2"], name="fire.squeeze"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node(
            "Conv", ["r2", "fire.expand.weight", "fire.expand.bias"], ["c3"], name="fire.expand", pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["c3"], ["r3"], name="relu3"),
        helper.make_node("Conv", ["r3", "head.weight", "head.bias"], ["c4"], name="head"),
        helper.make_node("Relu", ["c4"], ["r4"], name="relu4"),
        helper.make_node("GlobalAveragePool", ["r4"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["logits"], name="flatten", axis=1),
    ]
    made = helper.make_graph(nodes, "squeezenet_like", inputs, [value("logits", "batch", "classes")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="golden")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def owner_of(param: ParamSpec) -> npt.NDArray[np.uint8]:
    """Final owners: 1, 2, 3 or free. Task 1 takes all of ``squeeze``; nothing of ``expand`` stays free."""
    if param.name == "fire.squeeze.weight":
        return np.ones(param.shape, np.uint8)
    draw = hashed(param.size, salt=len(param.name)) % 8
    table = [1, 1, 1, 2, 2, 3, 3, 3] if param.name == "fire.expand.weight" else [1, 1, 2, 2, 3, 0, 0, 0]
    return np.array(table, np.uint8)[draw].reshape(param.shape)


def main() -> None:
    path = HERE / "three_tasks.pack"
    shutil.rmtree(path, ignore_errors=True)
    model = graph()
    final = {param.name: owner_of(param) for param in PACKABLE}
    weights = {param.name: numbers(param.shape, salt=10 + i) for i, param in enumerate(PACKABLE)}
    for param in PACKABLE:
        rounded = weights[param.name].astype(ml_dtypes.bfloat16).astype(np.float32)
        weights[param.name] = np.where(final[param.name] == 2, rounded, weights[param.name])
    shared = {
        "norm.weight": numbers((5,), 20, 0.5, 1.5),
        "norm.bias": numbers((5,), 21),
        "norm.running_mean": numbers((5,), 22),
        "norm.running_var": numbers((5,), 23, 0.5, 2.0),
        "fire.squeeze.bias": numbers((3,), 24),
        "fire.expand.bias": numbers((7,), 25),
    }
    pack = create_pack(path, Backbone("custom", "classifier.1"), SPEC, model, PACKABLE)
    expected: dict[str, object] = {"probe_sha256": digest(probe_batch(SPEC)), "tasks": {}}
    for index, (name, classes) in enumerate(TASKS.items(), start=1):
        owners = {key: np.where(owner <= index, owner, 0).astype(np.uint8) for key, owner in final.items()}
        head = {"weight": numbers((len(classes), 7, 1, 1), 30 + index), "bias": numbers((len(classes),), 40, 0.5, 1.0)}
        own = {"fire.expand.bias": numbers((7,), 50)} if name == OWN_BIAS_TASK else {}
        dense = {key: np.where(owners[key] > 0, weights[key], np.float32(0)) for key in weights}
        feeds = {"images": probe_batch(SPEC), **dense, **shared, **own}
        feeds |= {f"head.{key}": value for key, value in head.items()}
        logits = ReferenceEvaluator(onnx.load_from_string(model)).run(["logits"], feeds)[0]
        new = NewTask(
            name=name,
            classes=classes,
            owners=owners,
            weights=weights,
            head=head,
            probe_logits=logits,
            frozen_sha256=bank_sha256(PACKABLE, weights, owners, shared, index - 1),
            shared=shared if index == 1 else {},
            own=own,
            value_dtype="bfloat16" if name == BFLOAT16_TASK else "float32",
            report={"note": "golden"},
            input=OWN_INPUT if name == OWN_INPUT_TASK else None,
        )
        pack = append_task(pack, new)
        expected["tasks"][name] = {  # type: ignore[index]
            "materialised": {key: digest(value) for key, value in dense.items()},
            "owners": {key: digest(value) for key, value in owners.items()},
            "owned": {key: int((value == index).sum()) for key, value in owners.items()},
            "frozen_sha256": new.frozen_sha256,
            "input": (new.input or SPEC).to_json(),
            "logits": [[round(float(v), 6) for v in row] for row in logits],
        }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def digest(array: npt.NDArray[np.generic]) -> str:
    """SHA-256 of an array's little-endian bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


if __name__ == "__main__":
    main()
