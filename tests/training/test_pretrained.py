"""What ``--weights`` may say: names of torchvision's weights, or files, which may hold anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.training.backbones import build
from packnet_deploy.training.pretrained import preprocessing, read_state, read_weights, weights_names

WEIGHTS = torchvision.models.WeightsEnum


@pytest.mark.parametrize(
    ("arch", "text", "meant"),
    [
        ("resnet50", "imagenet", "IMAGENET1K_V2"),
        ("resnet50", "IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("resnet50", "ResNet50_Weights.IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("resnet50", "DEFAULT", "IMAGENET1K_V2"),
        ("vgg16", "VGG16_Weights.IMAGENET1K_FEATURES", "IMAGENET1K_FEATURES"),
    ],
)
def test_names_are_torchvisions_whatever_files_there_are(
    arch: str, text: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(self: Any, **_: Any) -> dict[str, torch.Tensor]:
        return {self.name: torch.zeros(1)}

    monkeypatch.setattr(WEIGHTS, "get_state_dict", fetch)
    monkeypatch.chdir(tmp_path)
    torch.save({"a file": torch.ones(1)}, text)
    assert list(read_weights(arch, text)) == [meant]
    assert list(read_weights(arch, f"./{text}")) == ["a file"]


def test_the_names_begin_with_what_imagenet_stands_for() -> None:
    assert weights_names("vgg16") == ("IMAGENET1K_V1", "IMAGENET1K_FEATURES")
    assert weights_names("resnet50") == ("IMAGENET1K_V2", "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("arch", "text", "has"),
    [
        ("resnet50", "IMAGENET1K_V3", "resnet50 has IMAGENET1K_V2, IMAGENET1K_V1"),
        ("resnet50", "imagenet1k_v1", "resnet50 has IMAGENET1K_V2, IMAGENET1K_V1"),
        ("resnet50", "VGG16_Weights.IMAGENET1K_V1", "resnet50 has IMAGENET1K_V2, IMAGENET1K_V1"),
        ("quickstart", "imagenet", "quickstart has no pretrained weights"),
    ],
)
def test_an_unknown_name_lists_those_there_are(arch: str, text: str, has: str) -> None:
    with pytest.raises(
        UsageError, match=rf"--weights {text}: expected a state-dict file, 'none', or a name of weights; {has}$"
    ):
        read_weights(arch, text)


@pytest.mark.parametrize("text", ["none.pth", "folder/IMAGENET1K_V1", "folder"])
def test_a_file_that_is_not_there(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFault, match=rf"--weights {text}: no such file; give a state-dict file, 'imagenet'"):
        read_weights("resnet18", text)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(WEIGHTS, "get_state_dict", offline)
    with pytest.raises(
        EnvironmentFault, match=r"--weights IMAGENET1K_V1: .* could not fetch resnet18's weights \(no route to host\)"
    ):
        read_weights("resnet18", "imagenet")


def test_every_network_has_a_preprocessing() -> None:
    for arch in torchvision.models.list_models(torchvision.models):
        for weights in (*weights_names(arch), "none"):
            size, mean, std = preprocessing(arch, weights)
            assert size in range(200, 700)
            assert len(mean) == len(std) == 3


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_file_with_nan_is_refused(tmp_path: Path) -> None:
    state = build("quickstart", 5)[0].state_dict()
    state["features.4.bias"][3] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ArtefactError, match=r"w\.pth: expected numbers, got NaN in features\.4\.bias$"):
        read_weights("quickstart", str(tmp_path / "w.pth"))


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
