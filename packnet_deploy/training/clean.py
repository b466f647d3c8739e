"""From what torch's exporter writes to the graph one would write by hand: plain operators and readable names.

Every pass works on a GraphProto in place, on graphs whose weights are inputs; none changes what the graph computes.
torch is not needed here. Folding normalisation into weights is the export's business (packnet_deploy.export.fold).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto

# Where torch's exporter notes the module path a node came from: a list of scopes, the last one the operation itself.
_SCOPES = "pkg.torch.onnx.name_scopes"


def clean_in_place(model: onnx.ModelProto, leaves: Collection[str], ends: Mapping[str, str]) -> None:
    """Rewrite the graph with the operators a person would choose, drop what is dead, and name what is left.

    Args:
        model: a graph with constants folded.
        leaves: paths of the torch modules without children: their nodes take the module's path as their name,
            all others get the operator appended (``layer1.0.conv1``, but ``layer1.0.add``).
        ends: new names of inputs and outputs; the others keep theirs.
    """
    graph = model.graph
    _pool_for_means(graph)
    _flatten_for_reshapes(graph)
    _skip_identities(graph)
    _drop_default_attributes(graph, model.opset_import[0].version)
    _drop_unused_initialisers(graph)
    _rename(graph, leaves, ends)
    for message in (graph, *graph.node):
        message.ClearField("doc_string")
        message.ClearField("metadata_props")
    graph.ClearField("value_info")


def _pool_for_means(graph: GraphProto) -> None:
    """ReduceMean over the two spatial axes of ``[batch, c, h, w]`` is GlobalAveragePool (and Flatten)."""
    constants, shapes = _constants(graph), _shapes(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        axes = constants.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        if axes is None or len(shapes.get(node.input[0], ())) != 4 or {a % 4 for a in axes.tolist()} != {2, 3}:
            continue
        keeps = _attributes(node).get("keepdims", 1)
        node.op_type = "GlobalAveragePool"
        del node.input[1:], node.attribute[:]
        if not keeps:
            flatten = NodeProto(op_type="Flatten", input=[f"{node.output[0]}/pooled"], output=[node.output[0]])
            flatten.metadata_props.extend(node.metadata_props)
            node.output[0] = flatten.input[0]
            nodes.append(flatten)
    _replace_nodes(graph, nodes)


def _flatten_for_reshapes(graph: GraphProto) -> None:
    """Reshape of ``[batch, a, b, …]`` to ``[-1, a·b·…]`` is Flatten, whatever the head's number of classes."""
    constants, shapes = _constants(graph), _shapes(graph)
    for node in graph.node:
        target = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        shape = shapes.get(node.input[0], ())
        if target is None or target.size != 2 or target[0] != -1 or len(shape) < 2:
            continue
        if all(isinstance(size, int) for size in shape[1:]) and prod(map(int, shape[1:])) == target[1]:
            node.op_type = "Flatten"
            del node.input[1:], node.attribute[:]


def _skip_identities(graph: GraphProto) -> None:
    """Leave out nodes that hand their input on (adaptive pooling of a 7x7 map to 7x7, say)."""
    outputs = {value.name for value in graph.output}
    nodes: list[NodeProto] = []
    stands_for: dict[str, str] = {}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = stands_for.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            stands_for[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    _replace_nodes(graph, nodes)


def _drop_default_attributes(graph: GraphProto, opset: int) -> None:
    """An attribute that states its operator's default says nothing."""
    for node in graph.node:
        defaults = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes
        kept = []
        for attribute in node.attribute:
            default = defaults[attribute.name].default_value if attribute.name in defaults else None
            if default is None or not default.HasField("type") or not _same_value(attribute, default):
                kept.append(attribute)
        kept.sort(key=lambda attribute: attribute.name)
        del node.attribute[:]
        node.attribute.extend(kept)


def _drop_unused_initialisers(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _rename(graph: GraphProto, leaves: Collection[str], ends: Mapping[str, str]) -> None:
    """Name nodes after their module, and each value between the ends after the node it comes from."""
    names = {value.name: ends.get(value.name, value.name) for value in (*graph.input, *graph.output)}
    taken = set(names.values())

    def unique(name: str) -> str:
        candidates: Iterator[str] = (f"{name}_{i}" if i else name for i in range(len(taken) + 1))
        free = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(free)
        return free

    for node in graph.node:
        path = _module_path(node)
        node.name = unique(path if path in leaves else f"{path}.{node.op_type.lower()}".lstrip("."))
        for i, output in enumerate(node.output):
            if output and output not in names:
                names[output] = node.name if i == 0 else unique(f"{node.name}.output{i}")
    for tensor in graph.initializer:
        names[tensor.name] = tensor.name = unique("constant")
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]


def _module_path(node: NodeProto) -> str:
    noted = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    scopes = ast.literal_eval(noted)
    return str(scopes[-2]) if len(scopes) > 1 else ""


def _constants(graph: GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _shapes(graph: GraphProto) -> dict[str, tuple[int | str, ...]]:
    """Shapes of all values that have one; a symbolic size is its name."""
    return {
        value.name: tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _same_value(attribute: AttributeProto, default: AttributeProto) -> bool:
    return bool(onnx.helper.get_attribute_value(attribute) == onnx.helper.get_attribute_value(default))


def _replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    copies = []
    for node in nodes:  # the originals live inside the list that is about to be emptied
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
