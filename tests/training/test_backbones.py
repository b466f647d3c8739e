"""Networks by name, their heads and inputs, and filling them with weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.training import backbones
from packnet_deploy.training.backbones import arch_table, archs, build, build_from, head_name, input_spec
from packnet_deploy.training.networks import LIST, known_networks, list_text


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("quickstart", "head"),
        ("squeezenet1_1", "classifier.1"),
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
    ],
)
def test_a_network_has_the_asked_for_classes_and_its_head_is_found(arch: str, head: str) -> None:
    module, found = build(arch, 7)
    assert found == head
    assert module.get_submodule(head).weight.shape[0] == 7
    assert module.eval()(torch.zeros(1, *input_spec(arch, 64).shape)).shape == (1, 7)


def test_what_is_not_offered_is_refused_with_the_reason() -> None:
    """And nothing but transformers is left out."""
    assert {"quickstart", "vgg16", "vgg16_bn", "resnet50", "densenet121", "squeezenet1_1"} <= set(archs())
    refused = set(torchvision.models.list_models(torchvision.models)) - set(archs())
    packable = {arch for arch in refused if arch.startswith("swin_v2_")}
    assert len(packable) == 3
    for arch in packable:
        with pytest.raises(UsageError, match=f"--arch {arch}: not a convolutional network; pack it from Python"):
            build(arch, 2)
    for arch in refused - packable:
        with pytest.raises(UsageError, match=rf"--arch {arch}: parameter '[\w.]+' \[.*\] is a weight that belongs"):
            build(arch, 2)


def test_the_table_says_what_the_networks_are() -> None:
    torch.manual_seed(2)
    table = {info.name: info for info in arch_table()}
    assert list(table) == archs()
    listed = {name: known for name, known in known_networks().items() if name in table}
    assert listed == table, f"write {LIST} again: LIST.write_text(list_text(arch_table()))"
    assert all(info.packable > 250_000 and info.head and info.input_size >= 32 for info in table.values())
    assert table["resnet50"][1:] == (23_454_912, "fc", 224, ("IMAGENET1K_V2", "IMAGENET1K_V1"))
    assert table["quickstart"].weights == ()
    assert torch.initial_seed() == 2
    assert torch.empty(1).device.type == "cpu"


@pytest.mark.parametrize(
    ("typed", "meant"), [("resnet81", "resnet18"), ("squeezenet", "squeezenet1_1"), ("?", "mobilenet_v2")]
)
def test_an_unknown_network_suggests_near_ones(typed: str, meant: str) -> None:
    says = rf"--arch {re.escape(typed)}: expected a network that .* --list-archs lists.*; did you mean .*{meant}"
    with pytest.raises(UsageError, match=says):
        build(typed, 2)
    with pytest.raises(UsageError, match=says):
        build_from(typed, "IMAGENET1K_V1")  # the network is looked at before its weights


def test_the_list_is_written_as_it_is_read() -> None:
    assert list_text(known_networks().values()) == LIST.read_text("utf-8")


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(UsageError, match="no linear or convolution layer that could be its head"):
        head_name(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(
    ("arch", "weights", "size", "red_mean", "red_std"),
    [
        ("resnet18", "imagenet", 224, 0.485, 0.229),
        ("vgg16", "VGG16_Weights.IMAGENET1K_FEATURES", 224, 0.48235, 1 / 255),
        ("efficientnet_v2_l", "imagenet", 480, 0.5, 0.5),
        ("regnet_y_16gf", "IMAGENET1K_SWAG_E2E_V1", 384, 0.485, 0.229),
        ("regnet_y_16gf", "some.pth", 224, 0.485, 0.229),
        ("efficientnet_b0", "none", 224, 0.485, 0.229),
    ],
)
def test_inputs_are_those_of_the_weights(arch: str, weights: str, size: int, red_mean: float, red_std: float) -> None:
    spec = input_spec(arch, None, weights)
    assert (spec.shape, spec.mean[0], spec.std[0]) == ((3, size, size), red_mean, red_std)
    assert input_spec(arch, 64, weights).shape == (3, 64, 64)


def test_inputs_keep_the_papers_ratio() -> None:
    assert (input_spec("resnet18", None).shape, input_spec("resnet18", None).resize) == ((3, 224, 224), 256)
    assert (input_spec("resnet18", 64).shape, input_spec("resnet18", 64).resize) == ((3, 64, 64), 73)
    assert input_spec("inception_v3", None).shape == (3, 299, 299)
    assert (input_spec("quickstart", None).shape, input_spec("quickstart", None).resize) == ((3, 32, 32), 36)


def test_weights_from_tensorflow_see_the_input_they_were_trained_on() -> None:
    """Torchvision's ``transform_input`` inside the network and our normalisation before it are the same."""
    inside = torchvision.models.googlenet(weights=None, transform_input=True, init_weights=False, aux_logits=False)
    pixels = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    usual, ours = input_spec("resnet18", 8), input_spec("googlenet", 8)

    def normalised(spec: Any) -> torch.Tensor:
        mean, std = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
        return (pixels - mean) / std

    assert torch.allclose(inside._transform_input(normalised(usual)), normalised(ours), atol=1e-12)


# -- filling with weights ------------------------------------------------------------------------------------------


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return build("quickstart", 5)[0].state_dict()


def _same(module: nn.Module, state: dict[str, torch.Tensor], head: bool = True) -> bool:
    found = module.state_dict()
    return all(torch.equal(found[name], value) for name, value in state.items() if head or not name.startswith("head."))


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module."])
def test_a_state_dict_fills_the_network(tmp_path: Path, state: dict[str, torch.Tensor], wrap: str) -> None:
    path, saved = tmp_path / "w.pth", dict[str, Any](state)
    if wrap == "module.":
        saved = {f"module.{name}": value for name, value in state.items()}
    elif wrap != "plain":
        saved = {wrap: saved, "epoch": 3}
    torch.save(saved, path)
    start = build_from("quickstart", str(path))
    assert _same(start.module, state)
    assert (start.head, start.head_is_trained) == ("head", True)
    assert start.module.get_submodule("head").weight.shape[0] == 5


def test_safetensors(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(dict(state), tmp_path / "w.safetensors")
    assert _same(build_from("quickstart", str(tmp_path / "w.safetensors")).module, state)


def test_a_file_without_a_head_leaves_it_random(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({name: value for name, value in state.items() if not name.startswith("head.")}, tmp_path / "w.pth")
    start = build_from("quickstart", str(tmp_path / "w.pth"))
    assert _same(start.module, state, head=False)
    assert not start.head_is_trained


def test_weights_none_are_random_and_follow_the_seed() -> None:
    torch.manual_seed(1)
    one = build_from("quickstart", "none")
    torch.manual_seed(1)
    assert _same(build_from("quickstart", "none").module, one.module.state_dict())
    assert not one.head_is_trained


def test_weights_of_another_network_name_the_first_differences(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "w.pth"
    torch.save(state, path)
    with pytest.raises(
        ArtefactError, match=r"w\.pth: not squeezenet1_1's weights: 50 tensors missing.*\(features\.0\.bias, "
    ):
        build_from("squeezenet1_1", str(path))
    state["features.0.weight"] = torch.zeros(16, 3, 5, 5)
    torch.save(state | {"extra": torch.zeros(1)}, path)
    with pytest.raises(ArtefactError, match=r"1 tensors .*\(features\.0\.weight\), 1 unknown \(extra\)"):
        build_from("quickstart", str(path))


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What torchvision answers when it is asked for any weights."""
    state: dict[str, torch.Tensor] = {}

    def fetch(self: Any, **options: Any) -> dict[str, torch.Tensor]:
        assert options["weights_only"]
        return state

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetch)
    return state


def test_densenets_files_spell_names_as_they_once_were(published: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(4)
    module, _ = build("densenet121", 1000)
    for name, value in module.state_dict().items():
        old = re.sub(r"(denselayer\d+\.)(norm|conv)(\d)", r"\1\2.\3", name)
        if "num_batches" not in name:
            published[old] = value
    assert "features.denseblock1.denselayer2.norm.1.weight" in published
    assert _same(build_from("densenet121", "imagenet").module, module.state_dict())


def test_a_network_that_wants_more_than_tensors_is_filled(published: dict[str, torch.Tensor]) -> None:
    """MNASNet's load_state_dict refuses what carries no version."""
    torch.manual_seed(4)
    module, _ = build("mnasnet0_5", 1000)
    published |= {name: value + 1 for name, value in module.state_dict().items()}
    assert _same(build_from("mnasnet0_5", "IMAGENET1K_V1").module, published)


def test_auxiliary_classifiers_are_left_out(published: dict[str, torch.Tensor]) -> None:
    module, _ = build("googlenet", 1000)
    published |= module.state_dict() | {"aux1.conv.conv.weight": torch.ones(2, 2, 1, 1)}
    assert build_from("googlenet", "imagenet").head_is_trained


def test_layers_that_the_weights_have_no_values_for_stay_random(published: dict[str, torch.Tensor]) -> None:
    """As torchvision's VGG16_Weights.IMAGENET1K_FEATURES have none for the classifier: NaN stands there."""
    torch.manual_seed(4)
    module, head = build("squeezenet1_1", 1000)
    lacking = [name for name in module.state_dict() if name.startswith(("features.12.", head))]
    published |= {n: torch.full_like(v, torch.nan) if n in lacking else v for n, v in module.state_dict().items()}
    start = build_from("squeezenet1_1", "SqueezeNet1_1_Weights.IMAGENET1K_V1")
    assert not start.head_is_trained
    assert start.untrained == tuple(sorted(name for name in lacking if not name.startswith(head)))
    filled = start.module.state_dict()
    assert all(bool(filled[name].isfinite().all()) for name in lacking)
    assert all(torch.equal(filled[name], value) for name, value in published.items() if name not in lacking)


def test_pretrained_class_names_are_at_hand() -> None:
    names = backbones.imagenet_class_names()
    assert len(names) == backbones.IMAGENET_CLASSES
    assert names[0] == "tench"
