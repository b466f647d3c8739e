"""``flowers102:`` torchvision's layout read as the paper uses it, and every refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.errors import EnvironmentFault

LABELS = [1, 2, 3] * 4
IDS = {"trnid": [9, 1, 5], "valid": [2, 3, 4], "tstid": [6, 7, 8, 10, 11, 12]}


def write_flowers(root: Path, labels=LABELS, **ids) -> Path:
    (root / "jpg").mkdir(parents=True)
    savemat(root / "imagelabels.mat", {"labels": np.array(labels, float)})
    savemat(root / "setid.mat", {**IDS, **ids})
    for i in range(1, 13):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(root / "jpg" / f"image_{i:05}.jpg")
    return root


def test_trained_on_training_and_validation_images(tmp_path):
    root = write_flowers(tmp_path / "flowers-102")
    data = open_dataset(f"flowers102:{tmp_path}", val_fraction=0.4)
    assert data.classes == ("1", "2", "3")
    numbers = [
        sorted(int(split.name(i)[-9:-4]) for i in range(len(split))) for split in (data.train, data.val, data.test)
    ]
    assert sorted(numbers[0] + numbers[1]) == [1, 2, 3, 4, 5, 9]
    assert (len(data.train), numbers[2]) == (3, IDS["tstid"])
    for split in (data.train, data.val, data.test):
        assert [LABELS[int(split.name(i)[-9:-4]) - 1] - 1 for i in range(len(split))] == split.labels.tolist()
        assert not split.boxed
    assert len(open_split(f"flowers102:{root}", "train")[1]) == 6


def test_files_agree_with_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import Flowers102

    root = write_flowers(tmp_path / "flowers-102")
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)  # it knows the real files' md5
    theirs = Flowers102(str(tmp_path), "test")
    split = open_split(f"flowers102:{root}")[1]
    assert [split.name(i) for i in range(len(split))] == list(map(str, theirs._image_files))
    assert split.labels.tolist() == theirs._labels


REFUSALS = {  # what is written instead, and words of the message
    "label zero": ({"labels": [0, *LABELS[1:]]}, "expected class 1 to 3, got 0"),
    "label a fraction": ({"labels": [1.5, *LABELS[1:]]}, "'labels': expected whole numbers, got 1.5"),
    "one class": ({"labels": [1] * 12}, "expected two or more different class names, got 1"),
    "labels a table": ({"labels": np.ones((3, 4))}, r"'labels': expected a list, got an array of shape \[3, 4\]"),
    "no labels": ({"labels": []}, "expected two or more different class names, got 0"),
    "id zero": ({"tstid": [0, 7]}, "expected image numbers 1 to 12, got 0 to 9"),
    "id too high": ({"tstid": [13]}, "expected image numbers 1 to 12, got 1 to 13"),
    "in two parts": ({"tstid": [1, 7]}, "expected every image in one part, got some in two"),
    "empty part": ({"tstid": []}, "expected images, it lists none"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_naming_the_file(tmp_path, case):
    changes, words = REFUSALS[case]
    root = write_flowers(tmp_path / "set", **changes)
    with pytest.raises(EnvironmentFault, match=words) as caught:
        open_dataset(f"flowers102:{root}")
    assert str(caught.value).startswith(str(root))
    assert "\n" not in str(caught.value)


def test_a_class_without_training_images_is_refused(tmp_path):
    root = write_flowers(tmp_path / "set", trnid=[1], valid=[4, 2])
    with pytest.raises(EnvironmentFault, match="expected training images of every class, got none of '3'"):
        open_dataset(f"flowers102:{root}")


@pytest.mark.parametrize("name", ["jpg", "imagelabels.mat", "setid.mat"])
def test_what_is_missing_is_named_with_the_layout(tmp_path, name):
    root = write_flowers(tmp_path / "set")
    (root / name).rename(root / "elsewhere")
    with pytest.raises(EnvironmentFault, match=r"jpg/image_00001\.jpg \.\.\. beside imagelabels\.mat") as caught:
        open_dataset(f"flowers102:{root}")
    assert str(caught.value).startswith(str(root if name == "jpg" else root / name))


def test_missing_images_are_counted(tmp_path):
    root = write_flowers(tmp_path / "set")
    for i in (6, 11):
        (root / "jpg" / f"image_{i:05}.jpg").unlink()
    with pytest.raises(EnvironmentFault, match=r"image_00006\.jpg: .*2 of 6 are missing"):
        open_dataset(f"flowers102:{root}")
