"""Channels are followed through whatever couples them, and what cannot be followed is refused."""

from __future__ import annotations

import sys

import pytest
import torch
from small_topologies import SPEC, TOPOLOGIES, Body, Dense, Depthwise, Grouped, Plain, Residual
from torch import Tensor, nn

from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.training import backbones
from packnet_deploy.training.methods.channels import FROM_IMAGES, Channels
from packnet_deploy.training.methods.following import follow_channels
from packnet_deploy.training.parts import packable_weights


def follow(module: nn.Module, head: str = "head") -> Channels:
    return follow_channels(module, head, packable_weights(module, head), SPEC)


def same(*numbers: Tensor) -> bool:
    return all(torch.equal(numbers[0], other) for other in numbers[1:])


def test_flattened_maps_belong_to_their_channel() -> None:
    found = follow(Plain())
    layers = found.layers
    assert found.count == 8 + 6 + 9
    assert layers["conv1.weight"].inputs.tolist() == [FROM_IMAGES] * 3
    assert same(layers["conv2.weight"].inputs, layers["conv1.weight"].outputs)
    assert same(layers["fc.weight"].inputs, layers["conv2.weight"].outputs.repeat_interleave(4))
    assert same(found.head, layers["fc.weight"].outputs)
    assert len(found.bundles.unique()) == 3


def test_what_is_added_up_is_one_channel() -> None:
    found = follow(Residual())
    layers = found.layers
    assert found.count == 8 + 6
    stream = layers["stem.weight"].outputs
    assert same(stream, layers["outer.weight"].outputs, layers["inner.weight"].inputs, found.head)
    assert same(stream, found.norms["norm"], found.norms["outer_norm"])
    assert same(found.norms["inner_norm"], layers["inner.weight"].outputs)


def test_what_is_concatenated_stays_apart() -> None:
    found = follow(Dense())
    stem, conv1, conv2 = (found.layers[f"{name}.weight"].outputs for name in ("stem", "conv1", "conv2"))
    assert same(found.layers["conv2.weight"].inputs, found.norms["norm2"], torch.cat([stem, conv1]))
    assert same(found.head, torch.cat([stem, conv1, conv2]))
    assert len(found.bundles.unique()) == 3


def test_depthwise_filters_and_gates_pass_their_channel_on() -> None:
    found = follow(Depthwise())
    expand = found.layers["expand.weight"].outputs
    assert found.layers["depth.weight"].passes_on
    assert same(expand, found.layers["depth.weight"].outputs, found.layers["excite.weight"].outputs)
    assert same(expand, found.layers["project.weight"].inputs, found.norms["depth_norm"])
    assert found.count == 8 + 4 + 6


def test_grouped_filters_read_their_group() -> None:
    layers = follow(Grouped()).layers
    read = layers["grouped.weight"].read_by_filter() - layers["stem.weight"].outputs[0]
    assert read.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5], [6, 7], [6, 7]]


def test_only_what_is_fed_carries_anything() -> None:
    found = follow(Grouped())
    layers = found.layers
    wanted = torch.ones(found.count, dtype=torch.bool)
    wanted[layers["stem.weight"].outputs[:2]] = False  # all that the first two grouped filters read
    fed = found.fed(wanted)
    assert fed[layers["stem.weight"].outputs].tolist() == [False] * 2 + [True] * 6
    assert fed[layers["grouped.weight"].outputs].tolist() == [False] * 2 + [True] * 6


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_following_leaves_the_module_as_it_was(topology: type[Body]) -> None:
    module = topology().train()
    module.head.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    asking = [parameter.requires_grad for parameter in module.parameters()]
    follow(module)
    assert all(part.training for part in module.modules())
    assert [parameter.requires_grad for parameter in module.parameters()] == asking
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


class Mixed(Body):
    """Two layers with something between them."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__(6)
        self.conv1, self.between, self.conv2 = nn.Conv2d(3, 8, 3), between, nn.Conv2d(8, 6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.conv2(self.between(self.conv1(images))).relu())


@pytest.mark.parametrize(
    "between",
    [nn.ChannelShuffle(2), nn.GroupNorm(2, 8), nn.LocalResponseNorm(4), nn.Softmax(dim=1), nn.ConvTranspose2d(8, 8, 3)],
    ids=lambda layer: type(layer).__name__,
)
def test_what_mixes_channels_is_refused(between: nn.Module) -> None:
    with pytest.raises(UsageError, match="channels cannot be followed"):
        follow(Mixed(between))


def test_what_does_not_mix_them_is_not() -> None:
    assert follow(Mixed(nn.Sequential(nn.ReLU(), nn.InstanceNorm2d(8), nn.MaxPool2d(2)))).count == 14


def test_without_torch_pruning_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(EnvironmentFault, match=r"torch-pruning.*packnet-deploy\[filters\]"):
        follow(Plain())


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("quickstart", 16 + 32 + 64 + 64 + 128 + 128),
        ("resnet18", 64 * 3 + 128 * 3 + 256 * 3 + 512 * 3),  # a stream and two inner layers a stage; stem is stage 1's
        ("squeezenet1_1", 2944),
        ("mobilenet_v2", 9128),
        ("densenet121", 10240),
    ],
)
def test_torchvisions_networks_are_followed(arch: str, count: int) -> None:
    module, head = backbones.build(arch, 3)
    found = follow_channels(module, head, packable_weights(module, head), backbones.input_spec(arch, 32))
    assert found.count == count


def test_shufflenet_is_refused() -> None:
    module, head = backbones.build("shufflenet_v2_x0_5", 3)
    with pytest.raises(UsageError, match="choose another network"):
        follow_channels(module, head, packable_weights(module, head), backbones.input_spec("shufflenet_v2_x0_5", 32))
