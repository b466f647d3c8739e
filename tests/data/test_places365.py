"""``places365:`` class folders and file lists, and every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.errors import EnvironmentFault

CATEGORIES = ("/a/airfield", "/a/arena/hockey", "/z/zen_garden")
CLASSES = ("airfield", "arena-hockey", "zen_garden")
FILES = {
    "categories_places365.txt": "".join(f"{name} {i}\n" for i, name in enumerate(CATEGORIES)),
    "places365_train_standard.txt": "".join(
        f"{name}/{k:08}.jpg {i}\n" for i, name in enumerate(CATEGORIES) for k in (1, 2)
    ),
    "places365_val.txt": "".join(f"Places365_val_{k:08}.jpg {k % 3}\n" for k in range(1, 5)),
}


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path)


def write_lists(root: Path, train: str = "data_256_standard", val: str = "val_256") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (root / name).write_text(text)
    for name in CATEGORIES:
        for k in (1, 2):
            _image(root / train / name[1:] / f"{k:08}.jpg")
    for k in range(1, 5):
        _image(root / val / f"Places365_val_{k:08}.jpg")
    return root


def write_folders(root: Path) -> Path:
    for name in CLASSES:
        for k in (1, 2):
            _image(root / "train" / name / f"{k:08}.jpg")
        _image(root / "val" / name / "1.jpg")
    return root


@pytest.mark.parametrize(
    ("train", "val"),
    [("data_256_standard", "val_256"), ("data_large_standard", "val_large"), ("data_256", "val_256")],
)
def test_file_lists(tmp_path, train, val):
    data = open_dataset(f"places365:{write_lists(tmp_path / 'set', train, val)}", val_fraction=0.5)
    assert data.classes == CLASSES
    assert (len(data.train), len(data.val), len(data.test)) == (3, 3, 4)
    assert data.test.labels.tolist() == [1, 2, 0, 1]
    assert data.train.name(1).startswith(str(tmp_path / "set" / train / "a" / "arena" / "hockey"))
    assert data.test.image(0).size == (8, 6)


def test_the_small_images_are_preferred(tmp_path):
    root = write_lists(write_lists(tmp_path / "set"), "data_large_standard", "val_large")
    assert "val_256" in open_split(f"places365:{root}")[1].name(0)


def test_class_folders_are_the_same_classes(tmp_path):
    write_folders(tmp_path / "places365_standard")
    data = open_dataset(f"places365:{tmp_path}", val_fraction=0.5)
    assert data.classes == CLASSES
    assert (len(data.train), len(data.val), len(data.test)) == (3, 3, 3)
    assert data.test_from == "val/"


@pytest.mark.parametrize("write", [write_lists, write_folders])
def test_a_part_needs_no_other(tmp_path, write):
    root = write(tmp_path / "set")
    for name in ("train", "data_256_standard", "places365_train_standard.txt"):
        if (root / name).exists():
            (root / name).rename(tmp_path / name)
    assert len(open_split(f"places365:{root}")[1]) == len(open_split(f"places365:{root}", "val")[1]) > 0
    with pytest.raises(EnvironmentFault, match=r"train/CLASS/\*\.jpg and val/CLASS"):
        open_split(f"places365:{root}", "train")


@pytest.mark.parametrize("name", ["places365_train_standard.txt", "places365_val.txt", "data_256_standard", "val_256"])
def test_what_is_missing_is_named_with_the_layout(tmp_path, name):
    root = write_lists(tmp_path / "set")
    (root / name).rename(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match="layout is train/CLASS") as caught:
        open_dataset(f"places365:{root}")
    assert str(caught.value).startswith(f"{root / name}: expected a f")


def test_class_folders_must_agree(tmp_path):
    root = write_folders(tmp_path / "set")
    (root / "val" / "airfield").rename(root / "val" / "airport")
    with pytest.raises(EnvironmentFault, match="only val/ has 'airport'"):
        open_dataset(f"places365:{root}")


REFUSALS = {  # file, what stands in it, what stands there instead, words of the message
    "label too high": ("places365_val.txt", "1.jpg 1", "1.jpg 3", "expected class 0 to 2, got 3"),
    "no label": ("places365_val.txt", "1.jpg 1", "1.jpg", "line 1: expected PATH CLASS"),
    "path outside": ("places365_train_standard.txt", "/a/airfield/0", "/../../0", r"got '\.\./\.\./0"),
    "image missing": ("places365_val.txt", "00000001.jpg", "00000009.jpg", "1 of 4 are missing"),
    "class number left out": ("categories_places365.txt", "garden 2", "garden 3", "numbered from 0"),
    "class number twice": (
        "categories_places365.txt",
        "garden 2",
        "garden 1",
        "numbered from 0, each once",
    ),
    "class without a name": ("categories_places365.txt", "/a/airfield", "/a", "printable UTF-8, got ''"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_naming_the_file(tmp_path, case):
    name, old, new, words = REFUSALS[case]
    root = write_lists(tmp_path / "set")
    assert old in FILES[name]
    (root / name).write_text(FILES[name].replace(old, new, 1))
    with pytest.raises(EnvironmentFault, match=words) as caught:
        open_dataset(f"places365:{root}")
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)
