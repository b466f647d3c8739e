"""Finding a data set: what is before the colon, and ``$PACKNET_DATA``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.data.source import LAYOUTS
from packnet_deploy.errors import EnvironmentFault, UsageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    """$PACKNET_DATA with Places365 and ImageNet of two images each; the working directory is beside it."""
    for folder, names in (("places365_standard", ("airfield", "zen")), ("imagenet", ("n00000001", "n00000002"))):
        for name in names:
            for part in ("train", "val"):
                (tmp_path / "root" / folder / part / name).mkdir(parents=True)
                Image.new("RGB", (4, 4)).save(tmp_path / "root" / folder / part / name / "1.png")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PACKNET_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def _folder(where: str) -> str:
    return str(Path(open_split(where)[1].name(0)).parents[2])


def test_without_a_folder_it_is_the_usual_one(root):
    assert _folder("imagenet:") == str(root / "imagenet")
    assert _folder("places365:") == str(root / "places365_standard")


@pytest.mark.parametrize("where", ["imagenet:imagenet", "imagefolder:imagenet", "imagenet"])
def test_a_relative_folder_is_looked_for_here_then_there(root, where, tmp_path):
    assert _folder(where) == str(root / "imagenet")
    shutil.copytree(root / "imagenet", tmp_path / "here" / "imagenet")
    assert _folder(where) == "imagenet"


def test_an_absolute_folder_is_looked_for_there_only(root, tmp_path):
    with pytest.raises(EnvironmentFault, match=r"/gone: expected a folder of images \(.*\); it does not exist$"):
        open_dataset(f"imagenet:{tmp_path}/gone")


def test_the_root_may_be_abbreviated(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("PACKNET_DATA", "~/root")
    assert _folder("imagenet:") == str(root / "imagenet")


@pytest.mark.parametrize("scheme", [name for name in LAYOUTS if name != "imagefolder"])
def test_a_missing_folder_is_named_with_the_layout(root, scheme):
    layout = LAYOUTS[scheme]
    with pytest.raises(EnvironmentFault) as caught:
        open_dataset(f"{scheme}:sets/mine")
    assert str(caught.value) == (
        f"sets/mine: expected a folder of images ({layout.LAYOUT}); "
        f"it does not exist, nor does {root}/sets/mine ($PACKNET_DATA)"
    )
    (root / "sets" / "mine").mkdir(parents=True)
    with pytest.raises(EnvironmentFault) as caught:
        open_dataset(f"{scheme}:sets/mine")
    assert str(caught.value) == f"{root}/sets/mine: expected {layout.LAYOUT}, got an empty folder"


def test_without_a_root_a_folder_must_be_given(monkeypatch):
    monkeypatch.delenv("PACKNET_DATA", raising=False)
    with pytest.raises(
        UsageError, match=r"expected cub200:DIR, or \$PACKNET_DATA set to the folder that holds CUB_200"
    ):
        open_dataset("cub200:")
    with pytest.raises(EnvironmentFault, match=r"gone: expected .*; it does not exist$"):
        open_dataset("cub200:gone")


def test_an_image_folder_has_no_usual_name(root):
    with pytest.raises(UsageError, match="imagefolder: expected imagefolder:DIR"):
        open_dataset("imagefolder:")


def test_unknown_layouts_list_the_known_ones(root):
    with pytest.raises(UsageError, match=r"one of imagefolder:, imagenet:, .*builtin: before it, got cubs:"):
        open_dataset("cubs:here")


def test_a_folder_may_have_a_colon_in_its_name(write_set):
    folder = write_set("cubs:mine", test={"cat": 1, "dog": 1})
    assert len(open_split(folder)[1]) == 2
    (folder.parent / "ab:c").mkdir()
    assert open_split(f"imagefolder:{folder}")[0] == ("cat", "dog")
