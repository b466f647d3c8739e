"""What the export tests build on: a skeleton with values for its inputs, and packs made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference
from onnx import TensorProto, helper

from packnet_deploy.pack import (
    Backbone,
    InputSpec,
    NewTask,
    Pack,
    ParamSpec,
    append_task,
    create_pack,
    probe_batch,
)

Tensors = dict[str, npt.NDArray[np.float32]]
NORM = ["n.weight", "n.bias", "n.running_mean", "n.running_var"]


@dataclass
class Network:
    """A skeleton and one value for each of its inputs."""

    skeleton: onnx.ModelProto
    tensors: Tensors
    spec: InputSpec

    def logits(self, tensors: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """The probe batch through onnx's own numpy interpreter: slow, and shares no code with the package."""
        session = onnx.reference.ReferenceEvaluator(self.skeleton)
        return np.asarray(session.run(None, {"images": probe_batch(self.spec), **tensors})[0])


def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def skeleton(nodes: list[onnx.NodeProto], shapes: Mapping[str, list[int | str]]) -> onnx.ModelProto:
    inputs = [value(name, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "skeleton", inputs, [value("logits", ["batch", "classes"])])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model)
    return model


def tiny_network(width: int = 40) -> Network:
    """conv (no bias) - bn - relu - conv - bn - relu - pool - flatten - head, 5x6 images, 4 classes.

    Args:
        width: channels of the second convolution, which has eight times as many weights.
    """
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes: dict[str, list[int | str]] = {"images": ["batch", 3, 5, 6], "a.weight": [8, 3, 3, 3]}
    shapes |= {f"n1.{part}": [8] for part in norm}
    shapes |= {"b.weight": [width, 8, 1, 1], "b.bias": [width], **{f"n2.{part}": [width] for part in norm}}
    shapes |= {"head.weight": ["classes", width], "head.bias": ["classes"]}
    nodes = [
        helper.make_node("Conv", ["images", "a.weight"], ["a"], "a", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *(f"n1.{part}" for part in norm)], ["n1"], "n1"),
        helper.make_node("Relu", ["n1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "b.weight", "b.bias"], ["b"], "b"),
        helper.make_node("BatchNormalization", ["b", *(f"n2.{part}" for part in norm)], ["n2"], "n2", epsilon=0.1),
        helper.make_node("Relu", ["n2"], ["r2"], "r2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    rng = np.random.default_rng(0)
    tensors: Tensors = {}
    for name, shape in shapes.items():
        if name != "images":
            size = [4 if s == "classes" else s for s in shape]
            tensors[name] = rng.normal(size=size).astype(np.float32)
            if name.endswith("running_var"):
                tensors[name] = np.abs(tensors[name]) + np.float32(0.2)
    spec = InputSpec((3, 5, 6), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 8)
    return Network(skeleton(nodes, shapes), tensors, spec)


def pack_of(
    path: Path,
    network: Network,
    shares: Mapping[str, float],
    wrong_probe: bool = False,
    classes: Mapping[str, int] | None = None,
    own: Mapping[str, Mapping[str, npt.NDArray[np.float32]]] | None = None,
    whole: Collection[str] = (),
) -> Pack:
    """Pack a network: each task owns its share of the still-free weights, picked at random, and has another head.

    A pack of the first of these tasks is, byte for byte, this pack before it grew.

    Args:
        classes: how many of the network's classes a task has; all where it is not named.
        own: by task, tensors that take the place of the shared ones.
        whole: weights that the first task has to the last one, as all have that later tasks may not change.
    """
    heads = {name: array for name, array in network.tensors.items() if name.startswith("head.")}
    packable = [
        ParamSpec(name, array.shape) for name, array in network.tensors.items() if array.ndim > 1 and name not in heads
    ]
    names = {param.name for param in packable}
    shared = {n: a for n, a in network.tensors.items() if n not in names and n not in heads}
    owners = {param.name: np.full(param.shape, param.name in whole, np.uint8) for param in packable}
    rng = np.random.default_rng(1)
    pack = create_pack(
        path,
        Backbone("custom", "head"),
        network.spec,
        network.skeleton.SerializeToString(),
        packable,
    )
    for index, (task, share) in enumerate(shares.items(), start=1):
        for owner in owners.values():
            owner[(owner == 0) & (rng.random(owner.shape) < share)] = index
        weights = {n: np.where(owners[n] > 0, network.tensors[n], np.float32(0)) for n in names}
        head = {n: np.roll(array, index, axis=0)[: (classes or {}).get(task)] for n, array in heads.items()}
        others = (own or {}).get(task, {})
        probe = network.logits({**shared, **others, **weights, **head})
        task_ = NewTask(
            name=task,
            classes=tuple(f"{task} {i}" for i in range(probe.shape[1])),
            owners=owners,
            weights=weights,
            head={name.removeprefix("head."): array for name, array in head.items()},
            probe_logits=probe * np.float32(1.001 if wrong_probe else 1),
            frozen_sha256=pack.bank().sha256(index - 1),
            shared=shared if index == 1 else {},
            own=others,
        )
        pack = append_task(pack, task_)
    return pack


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> np.ndarray:
    names = [value.name for value in model.graph.input]
    return np.asarray(onnx.reference.ReferenceEvaluator(model).run(None, {n: feeds[n] for n in names})[0])


def one_layer(kind: str, **attributes: Any) -> tuple[onnx.ModelProto, Tensors, np.ndarray]:
    """A layer of 3 to 5 channels, then normalisation; returns graph, tensors and an input."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.uniform(0.2, 2, 5).astype(np.float32) for name in NORM}
    tensors |= {"w": rng.normal(size=(5, 3, 2, 2) if kind == "Conv" else (5, 3)).astype(np.float32)}
    tensors["b"] = rng.normal(size=5).astype(np.float32)
    if kind == "Gemm" and not attributes.get("transB"):
        tensors["w"] = np.ascontiguousarray(tensors["w"].T)
    images = rng.normal(size=(2, 3, 2, 2) if kind == "Conv" else (2, 3)).astype(np.float32)
    nodes = [
        helper.make_node(kind, ["images", "w", "b"], ["x"], "layer", **attributes),
        helper.make_node("BatchNormalization", ["x", *NORM], ["y"], "norm"),
        helper.make_node("Flatten", ["y"], ["logits"], "flat"),
    ]
    shapes: dict[str, list[int | str]] = {"images": ["batch", *images.shape[1:]]}
    shapes |= {name: list(array.shape) for name, array in tensors.items()}
    return skeleton(nodes, shapes), tensors, images
