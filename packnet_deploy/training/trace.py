"""The skeleton of a network: its graph as ONNX with every weight an input, traced once, when a pack is created.

The network goes through torch's exporter whole, tail after the head included; the weights are then taken out and
their names become graph inputs, so that a pack's deltas can fill them in (and no optimiser can fold them away).
The result is held against the network itself in ONNX Runtime before it is handed out.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from packnet_deploy.errors import ArtefactError, CheckFailed, UsageError, reason
from packnet_deploy.pack.inputs import InputSpec, probe_batch
from packnet_deploy.runners.comparison import compare
from packnet_deploy.runners.contract import IMAGES, LOGITS
from packnet_deploy.runners.session import run_skeleton
from packnet_deploy.training.clean import clean_in_place
from packnet_deploy.training.inference import evaluating

if TYPE_CHECKING:
    from onnxscript import ir

OPSET = 20  # has Gelu as one node; read by ONNX Runtime from 1.17 on and by TensorRT 10
IR_VERSION = 9  # the one that came with opset 20

LARGEST_CONSTANT = 1 << 16  # bytes; what is larger is data that belongs in a delta

HEAD = "head"
BATCH, CLASSES = "batch", "classes"


def trace_skeleton(module: torch.nn.Module, head: str, spec: InputSpec) -> onnx.ModelProto:
    """The graph of ``module`` in eval mode, without its weights.

    Inputs: ``images`` float32 ``[batch, c, h, w]``; then every parameter in ``named_parameters()`` order (tied ones
    once, under their first name) and every floating buffer, float32, under their torch names, the head's as
    ``head.weight`` and ``head.bias`` with a first dimension ``classes``. Output: ``logits`` ``[batch, classes]``.
    The same network gives the same bytes. The module is left as it was found.

    Args:
        head: path of the output layer, a convolution or linear layer (``fc``, ``classifier.1``).

    Raises:
        UsageError: the network does not fit the scheme: an unknown head, a name that clashes, weights that are not
            float32 or that the output does not depend on, images that are too small, a forward that torch.export
            cannot follow.
        CheckFailed: the network's own logits are not finite, or the traced graph gives others.
    """
    weights = _weights(module, head)
    images = torch.from_numpy(probe_batch(spec)).to(next(module.parameters()).device)
    with evaluating(module), torch.no_grad():
        logits = _logits(module, images)
        model = _export(module, images, weights, head)
    renamed = {_input_name(name, head): value for name, value in weights.items()}
    arrays = {name: value.detach().cpu().numpy() for name, value in renamed.items()}
    _check(model, arrays, spec, logits.cpu().numpy())
    return model


def _weights(module: torch.nn.Module, head: str) -> dict[str, torch.Tensor]:
    """Every tensor that becomes an input, by torch name: parameters first, then floating buffers."""
    try:
        layer = module.get_submodule(head)
    except AttributeError:
        layer = None
    parameters = dict(layer.named_parameters()) if head and layer is not None else {}
    if "weight" not in parameters or not set(parameters) <= {"weight", "bias"}:
        raise UsageError(
            f"head '{head}': expected the path of a linear or convolution layer with weight and bias, got "
            f"{type(layer).__name__ if layer is not None else 'no such module'}; "
            f"the last layers are: {', '.join(_layers_with_weights(module)[-3:])}"
        )
    weights: dict[str, torch.Tensor] = dict(module.named_parameters())
    weights.update((name, b) for name, b in module.named_buffers() if b.is_floating_point())
    for name in parameters:
        if f"{head}.{name}" not in weights:
            raise UsageError(
                f"head '{head}': its {name} is tied to a parameter of the backbone; a task's head must be its own"
            )
    names = {IMAGES: "the network's input", LOGITS: "the network's output"}
    for name, value in weights.items():
        taken = names.setdefault(_input_name(name, head), f"'{name}'")
        if taken != f"'{name}'":
            raise UsageError(
                f"parameter '{name}': the graph needs the name '{_input_name(name, head)}' for {taken}; "
                "rename the module"
            )
        if value.dtype != torch.float32:
            raise UsageError(f"parameter '{name}': expected float32, got {value.dtype}; call module.float() first")
    return weights


def _layers_with_weights(module: torch.nn.Module) -> list[str]:
    return [path for path, layer in module.named_modules() if path and "weight" in dict(layer.named_parameters())]


def _input_name(name: str, head: str) -> str:
    return f"{HEAD}{name.removeprefix(head)}" if name.startswith(f"{head}.") else name


def _logits(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    try:
        logits = module(images)
    except (RuntimeError, ValueError) as error:  # what layers raise on a map that has become too small, say
        raise UsageError(
            f"{type(module).__name__}: its forward fails on images {list(images.shape[1:])} ({reason(error)}); "
            "give it larger images (alexnet 63 pixels, inception_v3 75)"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UsageError(f"{type(module).__name__}: expected one output [batch, classes], got {got}")
    if not bool(logits.isfinite().all()):
        raise CheckFailed(
            f"{type(module).__name__}: expected numbers, its logits in eval mode hold NaN or infinities; "
            "weights or running statistics have run away: begin again with a lower learning rate"
        )
    return logits


def _export(
    module: torch.nn.Module, images: torch.Tensor, weights: dict[str, torch.Tensor], head: str
) -> onnx.ModelProto:
    from onnxscript import ir, optimizer, rewriter
    from onnxscript.rewriter.rules import common

    program = _export_with_torch(module, images)
    _weights_to_inputs(program.model, module, weights, head)
    # With the weights gone only shape arithmetic and made-up zero biases are left to fold.
    rules = [common.remove_optional_bias_from_conv_rule, common.materialize_reshape_shape_rule]
    optimizer.optimize(program.model)
    rewriter.rewrite(program.model, rules)
    optimizer.optimize(program.model)
    traced = ir.to_proto(program.model)

    leaves = {path for path, layer in module.named_modules() if path and next(layer.children(), None) is None}
    ends = {traced.graph.input[0].name: IMAGES, traced.graph.output[0].name: LOGITS}
    clean_in_place(traced, leaves, ends)
    _declare(traced.graph, weights, head, images)
    _expect_no_data(traced.graph)
    traced.graph.name = "skeleton"
    return onnx.helper.make_model(
        traced.graph,
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="packnet-deploy",
    )


def _export_with_torch(module: torch.nn.Module, images: torch.Tensor) -> torch.onnx.ONNXProgram:
    from packnet_deploy.training.pooling import adaptive_average_pool

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sizes = ({0: torch.export.Dim(BATCH)},)
            exported = torch.export.export(module, (images,), dynamic_shapes=sizes, strict=False)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.adaptive_avg_pool2d.default: adaptive_average_pool},
                verbose=False,
            )
    except Exception as error:  # the exporter lets errors of a dozen unrelated classes through
        raise UsageError(
            f"{type(module).__name__}: torch.export cannot trace it ({reason(error)}); its forward must be free of "
            "control flow that depends on values, and must accept any batch size"
        ) from error
    finally:
        log.setLevel(level)
    assert program is not None  # only the deprecated exporter returns None
    return program


def _weights_to_inputs(model: ir.Model, module: torch.nn.Module, weights: dict[str, torch.Tensor], head: str) -> None:
    """Turn initialisers into inputs, before anything serialises or folds them."""
    first_name = {id(value): name for name, value in weights.items()}
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    aliases = {name: first_name[id(value)] for name, value in tensors if id(value) in first_name}
    for name, value in list(model.graph.initializers.items()):
        if name in aliases:  # the exporter lists a tied parameter once, under the last of its names
            del model.graph.initializers[name]
            value.const_value = None
            value.name = _input_name(aliases[name], head)
            model.graph.inputs.append(value)


def _declare(graph: onnx.GraphProto, weights: dict[str, torch.Tensor], head: str, images: torch.Tensor) -> None:
    """State names, types and shapes of inputs and output afresh, symbolic where a task or a batch decides."""

    def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    used = {name for node in graph.node for name in node.input}
    inputs = [value(IMAGES, [BATCH, *images.shape[1:]])]
    for name, tensor in weights.items():
        if _input_name(name, head) not in used:
            raise UsageError(
                f"parameter '{name}': the logits do not depend on it in eval mode; remove it from the network "
                "(auxiliary classifiers, say) before packing"
            )
        own = name.startswith(f"{head}.")
        inputs.append(value(_input_name(name, head), [CLASSES, *tensor.shape[1:]] if own else [*tensor.shape]))
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.append(value(LOGITS, [BATCH, CLASSES]))


def _expect_no_data(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.ByteSize() > LARGEST_CONSTANT:
            raise UsageError(
                f"the network computes with a constant of {tensor.ByteSize():,} bytes, shape {list(tensor.dims)}; "
                f"at most {LARGEST_CONSTANT:,} bytes can stay in the graph: make it a parameter or a float buffer"
            )


def _check(model: onnx.ModelProto, arrays: dict[str, np.ndarray], spec: InputSpec, expected: np.ndarray) -> None:
    """Run the graph on the probe batch, then on one image with one class more, as another task will have."""
    onnx.checker.check_model(model)
    graph, images = model.SerializeToString(), probe_batch(spec)
    difference = compare(run_skeleton(graph, arrays, images), expected)
    if not difference.passes:
        raise CheckFailed(f"the traced graph does not compute what the network does: {difference}")
    wider = {
        name: np.concatenate([value, value[:1]]) if name.startswith(f"{HEAD}.") else value
        for name, value in arrays.items()
    }
    expected_shape = (1, expected.shape[1] + 1)
    try:
        found: object = run_skeleton(graph, wider, images[:1]).shape
    except ArtefactError as error:
        found = error
    if found != expected_shape:
        raise UsageError(
            f"the network fixes its number of classes or images: expected logits {expected_shape} for one image and "
            f"one class more, got {found}; let only the head know how many classes there are"
        )
