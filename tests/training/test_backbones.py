"""Networks by name, their heads and inputs, and weights files that may hold anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.training import backbones
from packnet_deploy.training.backbones import archs, build, build_from, head_name, input_spec, read_state


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


def test_networks_without_convolutions_are_not_offered() -> None:
    assert {"quickstart", "vgg16", "vgg16_bn", "resnet50", "densenet121", "squeezenet1_1"} <= set(archs())
    assert not [name for name in archs() if "vit" in name or "swin" in name]


@pytest.mark.parametrize(
    ("typed", "meant"), [("resnet81", "resnet18"), ("squeezenet", "squeezenet1_1"), ("?", "vgg16")]
)
def test_an_unknown_network_suggests_near_ones(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"not a network known here; did you mean one of: .*{meant}"):
        build(typed, 2)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(UsageError, match="no linear or convolution layer that could be its head"):
        head_name(nn.Sequential(nn.ReLU()))


def test_inputs_keep_the_papers_ratio() -> None:
    assert (input_spec("resnet18", None).shape, input_spec("resnet18", None).resize) == ((3, 224, 224), 256)
    assert (input_spec("resnet18", 64).shape, input_spec("resnet18", 64).resize) == ((3, 64, 64), 73)
    assert input_spec("inception_v3", None).shape == (3, 299, 299)
    assert (input_spec("quickstart", None).shape, input_spec("quickstart", None).resize) == ((3, 32, 32), 36)


def test_weights_from_tensorflow_see_the_input_they_were_trained_on() -> None:
    """Torchvision's ``transform_input`` inside the network and our normalisation before it are the same."""
    import torchvision

    inside = torchvision.models.googlenet(weights=None, transform_input=True, init_weights=False, aux_logits=False)
    pixels = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    usual, ours = input_spec("resnet18", 8), input_spec("googlenet", 8)

    def normalised(spec: Any) -> torch.Tensor:
        mean, std = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
        return (pixels - mean) / std

    assert torch.allclose(inside._transform_input(normalised(usual)), normalised(ours), atol=1e-12)


# -- weights files -------------------------------------------------------------------------------------------------


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


class Malice:
    """Would run code if anybody unpickled it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code in a weights file was run",)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"a": 3}, {1: torch.zeros(1)}, torch.zeros(2), {"a": Malice()}, {"state_dict": {"a": "b"}}],
    ids=["list", "numbers", "integer names", "tensor", "code", "strings"],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ArtefactError, match=r"w\.pth: (expected|not) a state.dict") as caught:
        read_state(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert "arbitrary code" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    tensors = {"a.weight": torch.ones(3, 4), "b": torch.zeros(5)}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, whole)
    content = whole.read_bytes()
    for length in (*range(0, 40, 3), *range(40, len(content), 61), len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(ArtefactError, match="not a state-dict file"):
            read_state(cut)


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match=r"no such file; give a state-dict file, 'imagenet' or 'none'"):
        build_from("quickstart", str(tmp_path / "none.pth"))
    with pytest.raises(UsageError, match="quickstart has no pretrained weights; use --weights none"):
        build_from("quickstart", "imagenet")

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(backbones.torchvision.models.ResNet18_Weights.DEFAULT.__class__, "get_state_dict", offline)
    with pytest.raises(EnvironmentFault, match=r"could not fetch resnet18's weights \(no route to host\)"):
        build_from("resnet18", "imagenet")


def test_pretrained_class_names_are_at_hand() -> None:
    names = backbones.imagenet_class_names()
    assert len(names) == backbones.IMAGENET_CLASSES
    assert names[0] == "tench"
