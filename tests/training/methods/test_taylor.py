"""The Taylor criterion for single weights: against its definition; channels' is tested with the filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from packnet_deploy.training.methods.taylor import weight_importance

GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [(torch.randn(size, 3, 6, 6, generator=GENERATOR), torch.arange(size) % 2) for size in (4, 3, 5)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 2))


def importance_of(module: nn.Module, images: int = 100) -> dict[str, Tensor]:
    weights = {name: parameter for name, parameter in module.named_parameters() if parameter.ndim > 1}
    return weight_importance(module, weights, BATCHES, images)


def test_it_is_the_square_of_the_slope_along_the_weight_mean_over_batches() -> None:
    module = network().eval()
    expected: dict[str, list[Tensor]] = {"0.weight": [], "5.weight": []}
    for images, labels in BATCHES:
        module.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        for name, slopes in expected.items():
            weight = module.get_parameter(name)
            assert weight.grad is not None
            slopes.append((weight.detach() * weight.grad) ** 2)
    found = importance_of(module)
    for name, slopes in expected.items():
        torch.testing.assert_close(found[name], torch.stack(slopes).mean(0))


def test_the_module_is_left_as_it_was_and_judged_without_noise() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    once, again = importance_of(module), importance_of(module)
    assert all(torch.equal(once[name], again[name]) for name in once), "no dropout"
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items()), "no statistics"
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_enough_images_are_enough() -> None:
    first = weight_importance(network(), {"5.weight": network()[5].weight}, [], 1)
    assert not first["5.weight"].any(), "no images, no importance"
    module = network()
    weights = {"5.weight": module.get_parameter("5.weight")}
    two, three = (weight_importance(module, weights, BATCHES[:count])["5.weight"] for count in (2, 3))
    assert not torch.equal(two, three)
    for images, expected in ((5, two), (7, two), (8, three)):
        assert torch.equal(weight_importance(module, weights, BATCHES, images)["5.weight"], expected), images


def test_what_cannot_learn_matters_nothing() -> None:
    module = network()
    module.get_parameter("0.weight").requires_grad_(False)
    module.register_parameter("unused", nn.Parameter(torch.ones(2, 2)))
    found = importance_of(module)
    assert [bool(found[name].any()) for name in ("0.weight", "5.weight", "unused")] == [False, True, False]
    module.requires_grad_(False)
    assert not any(score.any() for score in importance_of(module).values())
