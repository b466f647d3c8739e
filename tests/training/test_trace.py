"""The skeleton: a hand-made-looking graph that computes what the network does, and clear refusals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from packnet_deploy.errors import CheckFailed, UsageError
from packnet_deploy.pack import InputSpec, probe_batch
from packnet_deploy.training import trace
from packnet_deploy.training.pooling import averages
from packnet_deploy.training.trace import trace_skeleton

SPEC = InputSpec((3, 12, 14), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 16)


class Small(nn.Module):
    """conv - bn - relu, a residual block, pooling, head; ReLU used twice, normalisation with statistics of its own."""

    def __init__(self, channels: int = 3, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, bias=False), nn.BatchNorm2d(8))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, eps=0.01))
        self.relu = nn.ReLU()
        self.pool = pool or nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout()
        self.fc = nn.LazyLinear(5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(images))
        x = self.relu(x + self.block(x))
        return self.fc(self.drop(torch.flatten(self.pool(x), 1)))


def ready(module: nn.Module, spec: InputSpec = SPEC) -> nn.Module:
    """Materialise lazy layers and move statistics off their initial 0 and 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        module.eval()(torch.from_numpy(probe_batch(spec)))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 2)
    return module


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def signature(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


def values_of(module: nn.Module, head: str) -> dict[str, np.ndarray]:
    return {
        name.replace(f"{head}.", "head."): value.detach().numpy()
        for name, value in (*module.named_parameters(), *module.named_buffers())
        if value.is_floating_point()
    }


def assert_same_logits(module: nn.Module, model: onnx.ModelProto, head: str, spec: InputSpec = SPEC) -> None:
    """Against onnx's numpy interpreter, which shares nothing with the check inside."""
    images = probe_batch(spec)
    got = ReferenceEvaluator(model).run(None, {"images": images, **values_of(module, head)})[0]
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return ready(Small())


@pytest.fixture(scope="module")
def skeleton(small: nn.Module) -> onnx.ModelProto:
    return trace_skeleton(small, "fc", SPEC)


def test_the_nodes_are_those_one_would_write(skeleton: onnx.ModelProto) -> None:
    assert [(node.name, node.op_type, list(node.input), list(node.output)) for node in skeleton.graph.node] == [
        ("stem.0", "Conv", ["images", "stem.0.weight"], ["stem.0"]),
        ("stem.1", "BatchNormalization", ["stem.0", *norm("stem.1")], ["stem.1"]),
        ("relu", "Relu", ["stem.1"], ["relu"]),
        ("block.0", "Conv", ["relu", "block.0.weight", "block.0.bias"], ["block.0"]),
        ("block.1", "BatchNormalization", ["block.0", *norm("block.1")], ["block.1"]),
        ("add", "Add", ["relu", "block.1"], ["add"]),
        ("relu_1", "Relu", ["add"], ["relu_1"]),
        ("pool", "GlobalAveragePool", ["relu_1"], ["pool"]),
        ("flatten", "Flatten", ["pool"], ["flatten"]),
        ("fc", "Gemm", ["flatten", "head.weight", "head.bias"], ["logits"]),
    ]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in skeleton.graph.node[4].attribute}
    assert attributes == {"epsilon": pytest.approx(0.01)}


def norm(path: str) -> list[str]:
    return [f"{path}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def test_every_tensor_is_an_input_and_none_is_inside(skeleton: onnx.ModelProto, small: nn.Module) -> None:
    expected: dict[str, list[int | str]] = {"images": ["batch", 3, 12, 14]}
    tensors = (*small.named_parameters(), *small.named_buffers())
    expected |= {name: list(value.shape) for name, value in tensors if value.is_floating_point()}
    del expected["fc.weight"], expected["fc.bias"]
    expected |= {"head.weight": ["classes", 8], "head.bias": ["classes"], "logits": ["batch", "classes"]}
    assert signature(skeleton) == expected
    parameters = [name.replace("fc.", "head.") for name, _ in small.named_parameters()]
    assert [value.name for value in skeleton.graph.input][1 : 1 + len(parameters)] == parameters
    assert not skeleton.graph.initializer


def test_it_computes_what_the_network_does(skeleton: onnx.ModelProto, small: nn.Module) -> None:
    onnx.checker.check_model(skeleton, full_check=True)
    assert_same_logits(small, skeleton, "fc")


def test_tasks_with_other_class_counts_fit(skeleton: onnx.ModelProto, small: nn.Module) -> None:
    values = values_of(small, "fc") | {"head.weight": np.ones((9, 8), np.float32), "head.bias": np.zeros(9, np.float32)}
    got = ReferenceEvaluator(skeleton).run(None, {"images": probe_batch(SPEC)[:3], **values})[0]
    assert got.shape == (3, 9)


def test_the_same_network_gives_the_same_bytes_and_no_traces_of_this_machine(
    skeleton: onnx.ModelProto, small: nn.Module
) -> None:
    assert trace_skeleton(small, "fc", SPEC).SerializeToString() == skeleton.SerializeToString()
    assert not skeleton.doc_string
    assert not skeleton.producer_version
    assert not skeleton.metadata_props
    for message in (skeleton.graph, *skeleton.graph.node):
        assert not message.doc_string
        assert not message.metadata_props
    assert torch.__version__.encode() not in skeleton.SerializeToString()
    assert b".py" not in skeleton.SerializeToString()


def test_the_module_is_left_as_it_was() -> None:
    module = ready(Small())
    module.train()
    module.block.eval()  # as the trainer does with frozen normalisation
    module.stem[0].weight.grad = torch.ones_like(module.stem[0].weight)
    module.stem[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = {path: layer.training for path, layer in module.named_modules()}
    trace_skeleton(module, "fc", SPEC)
    assert {path: layer.training for path, layer in module.named_modules()} == flags
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(module.stem[0].weight.grad, torch.ones_like(module.stem[0].weight))
    assert [name for name, value in module.named_parameters() if not value.requires_grad] == ["stem.0.weight"]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        (1, {"GlobalAveragePool": 1}),
        ((10, 12), {}),  # the map's own size
        (2, {"AveragePool": 1}),
        (7, {"MatMul": 2}),  # neither divides
        (20, {"MatMul": 2}),  # larger than the map, as VGG's at small images
    ],
)
def test_adaptive_pooling(out: int | tuple[int, int], expected: dict[str, int]) -> None:
    module = ready(Small(pool=nn.AdaptiveAvgPool2d(out)))
    model = trace_skeleton(module, "fc", SPEC)
    others = {"Conv": 2, "BatchNormalization": 2, "Relu": 2, "Add": 1, "Flatten": 1, "Gemm": 1}
    assert operators(model) == {**others, **expected}
    assert_same_logits(module, model, "fc")


@pytest.mark.parametrize(("size", "out"), [(7, 7), (4, 7), (10, 4), (1, 7), (9, 1), (33, 6)])
def test_the_averages_are_those_of_torch(size: int, out: int) -> None:
    row = torch.randn(1, 1, size, dtype=torch.float64)
    expected = nn.functional.adaptive_avg_pool1d(row, out)[0, 0].numpy()
    np.testing.assert_allclose(averages(size, out) @ row[0, 0].numpy(), expected, rtol=1e-6, atol=1e-7)


class Mean(nn.Module):
    def __init__(self, keepdim: bool) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean([2, 3], keepdim=self.keepdim)


@pytest.mark.parametrize("keepdim", [True, False])
def test_a_mean_over_the_map_is_a_pooling(keepdim: bool) -> None:
    module = ready(Small(pool=Mean(keepdim)))
    model = trace_skeleton(module, "fc", SPEC)
    assert operators(model)["GlobalAveragePool"] == 1
    assert "ReduceMean" not in operators(model)
    assert_same_logits(module, model, "fc")


@pytest.mark.parametrize("shape", [(1, 33, 33), (3, 32, 32), (1, 5, 40)])
def test_grey_and_odd_images(shape: tuple[int, int, int]) -> None:
    spec = InputSpec(shape, (0.5,) * shape[0], (0.3,) * shape[0], 40)
    module = ready(Small(channels=shape[0]), spec)
    model = trace_skeleton(module, "fc", spec)
    assert signature(model)["images"] == ["batch", *shape]
    assert_same_logits(module, model, "fc", spec)


def test_a_convolution_as_head_with_a_tail_after_it() -> None:
    """SqueezeNet's end: the class count runs through ReLU, pooling and flattening."""
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU())
    module = ready(nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model = trace_skeleton(module, "2", SPEC)
    assert signature(model)["head.weight"] == ["classes", 6, 1, 1]
    assert [node.op_type for node in model.graph.node][-4:] == ["Conv", "Relu", "GlobalAveragePool", "Flatten"]
    images = probe_batch(SPEC)[:2]
    values = {name.replace("2.", "head."): value.detach().numpy() for name, value in module.named_parameters()}
    values |= {"head.weight": np.ones((11, 6, 1, 1), np.float32), "head.bias": np.zeros(11, np.float32)}
    assert ReferenceEvaluator(model).run(None, {"images": images, **values})[0].shape == (2, 11)


class Tied(nn.Module):
    """One layer under two names, one weight and one buffer in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.first = self.again = nn.Conv2d(3, 3, 1)
        self.other = nn.Conv2d(3, 3, 1)
        self.other.weight = self.first.weight
        self.norm2 = nn.BatchNorm2d(3)
        self.norm2.running_mean = self.norm.running_mean
        self.fc = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.other(self.again(self.first(self.norm(images))))
        return self.fc(self.norm2(x).mean([2, 3]))


def test_tied_tensors_are_one_input_under_their_first_name() -> None:
    module = ready(Tied())
    model = trace_skeleton(module, "fc", SPEC)
    named = dict((*module.named_parameters(), *module.named_buffers()))  # these list tied ones once
    expected = {name.replace("fc.", "head.") for name, value in named.items() if value.is_floating_point()}
    assert set(signature(model)) == expected | {"images", "logits"}
    assert [node.input[1] for node in model.graph.node if node.op_type == "Conv"] == ["first.weight"] * 3
    assert_same_logits(module, model, "fc")


# Refusals: one line that names what is wrong.


def refuses(module: nn.Module, head: str, match: str, spec: InputSpec = SPEC) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        trace_skeleton(module, head, spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", ["classifier", "", "relu", "stem"])
def test_a_head_that_is_none(head: str, small: nn.Module) -> None:
    refuses(small, head, rf"head '{head}': expected the path of .*block\.1, fc")


def test_names_that_clash() -> None:
    module = Small()
    module.head = nn.Linear(2, 2)
    clash = r"parameter 'head\.weight': the graph needs the name 'head\.weight' for 'fc\.weight'"
    refuses(ready(module), "fc", clash)
    module = Small()
    module.images = nn.Parameter(torch.zeros(3))
    clash = "parameter 'images': the graph needs the name 'images' for the network's input"
    refuses(ready(module), "fc", clash)


def test_a_head_that_is_called_head_is_no_clash(small: nn.Module) -> None:
    module = nn.Sequential()
    module.add_module("body", nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    module.add_module("head", nn.Linear(4, 2))
    assert "head.weight" in signature(trace_skeleton(module, "head", SPEC))


def test_a_parameter_that_the_logits_do_not_depend_on() -> None:
    module = Small()
    module.auxiliary = nn.Linear(3, 3)
    refuses(ready(module), "fc", r"parameter 'auxiliary\.weight': the logits do not depend on it")


def test_a_head_tied_to_the_backbone() -> None:
    module = ready(nn.Sequential(nn.Linear(14, 14), nn.AdaptiveAvgPool2d((1, None)), nn.Flatten(), nn.Linear(42, 14)))
    module[3] = nn.Linear(14, 14)
    module[3].weight = module[0].weight
    refuses(module, "3", "head '3': its weight is tied")


def test_weights_of_another_type(small: nn.Module) -> None:
    refuses(ready(Small()).double(), "fc", r"parameter 'stem\.0\.weight': expected float32, got torch\.float64")


class Twice(Small):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (super().forward(images),) * 2


class Branching(Small):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits if logits.sum() > 0 else -logits


class FixedBatch(Small):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).reshape(4, 5)


class Scaled(Small):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * self.temperature


class LargeConstant(Small):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + self.table[0, 0]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(1 << 14, dtype=torch.int64).reshape(128, 128), persistent=False)


def test_networks_that_cannot_be_a_skeleton() -> None:
    refuses(ready(Twice()), "fc", r"Twice: expected one output \[batch, classes\], got tuple")
    refuses(ready(Branching()), "fc", "Branching: torch.export cannot trace it")
    refuses(ready(FixedBatch()), "fc", "FixedBatch: torch.export cannot trace it")
    refuses(ready(Scaled()), "fc", r"fixes its number of classes or images: expected logits \(1, 6\) .*, got ONNX")
    refuses(ready(LargeConstant()), "fc", r"computes with a constant of 131,\d+ bytes, shape \[128, 128\]")


def test_images_too_small_for_the_network() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(16), nn.Flatten(), nn.Linear(4, 2))
    refuses(module, "3", r"Sequential: its forward fails on images \[3, 12, 14\] \(.*\); give it larger images")


def test_a_network_that_has_run_away_is_not_blamed_on_the_graph() -> None:
    module = ready(Small())
    module.block[1].running_var[2] = torch.inf
    module.block[1].running_mean[2] = torch.inf
    with pytest.raises(CheckFailed, match="Small: expected numbers, its logits in eval mode hold NaN or infinities"):
        trace_skeleton(module, "fc", SPEC)


def test_a_graph_that_computes_something_else_is_caught(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: onnx.ModelProto, *rest: Any) -> None:
        clean(model, *rest)
        model.graph.node[1].attribute.append(onnx.helper.make_attribute("epsilon", 0.01))

    clean = trace.clean_in_place
    monkeypatch.setattr(trace, "clean_in_place", spoil)
    with pytest.raises(CheckFailed, match="does not compute what the network does: logits differ by up to"):
        trace_skeleton(small, "fc", SPEC)
