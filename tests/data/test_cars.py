"""``cars:`` Stanford Cars in both layouts, and every refusal."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from PIL import Image
from scipy.io import savemat

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.errors import EnvironmentFault

NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo Convertible 2012")
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def annotations(count: int, **changes) -> np.ndarray:
    """Image i: box (1 + i, 3) to (10 + i, 8) counted from 1, class i % 3 + 1. The first gets the ``changes``."""
    records = np.zeros(count, [(field, object) for field in FIELDS])
    for i in range(count):
        records[i] = (1 + i, 3, 10 + i, 8, i % 3 + 1, f"{i + 1:05}.jpg")
    for field, value in changes.items():
        records[0][field] = value
    return records


def write_cars(root: Path, train: np.ndarray, test: np.ndarray, withlabels: str, names=NAMES) -> Path:
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array(names, object)})
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": train})
    savemat(root / withlabels / "cars_test_annos_withlabels.mat", {"annotations": test})
    rng = np.random.default_rng(0)
    for part, count in (("cars_train", len(train)), ("cars_test", len(test))):
        (root / part).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(root / part / f"{i + 1:05}.jpg")
    return root


@pytest.mark.parametrize("withlabels", ["devkit", "."])
def test_both_layouts(tmp_path, withlabels):
    root = write_cars(tmp_path / "stanford_cars", annotations(9), annotations(4), withlabels)
    data = open_dataset(f"cars:{tmp_path}")
    assert data.classes == NAMES
    assert (len(data.train), len(data.val), len(data.test)) == (6, 3, 4)
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    for part, split in (("train", data.train), ("train", data.val), ("test", data.test)):
        assert split.boxed
        for i in range(len(split)):
            left = int(Path(split.name(i)).stem) - 1  # the boxes count from 1
            photo = np.asarray(Image.open(root / f"cars_{part}" / f"{left + 1:05}.jpg").convert("RGB"))
            np.testing.assert_array_equal(np.asarray(split.image(i)), photo[2:8, left : left + 10])


def test_a_test_set_of_one_image_is_a_list_too(tmp_path):
    root = write_cars(tmp_path / "set", annotations(3), annotations(1), "devkit")
    assert len(open_split(f"cars:{root}")[1]) == 1


def test_the_test_images_need_no_training_images(tmp_path):
    root = write_cars(tmp_path / "set", annotations(3), annotations(4), "devkit")
    for path in (root / "cars_train").iterdir():
        path.unlink()
    assert len(open_split(f"cars:{root}")[1]) == 4
    with pytest.raises(EnvironmentFault, match=r"cars_train/00001\.jpg: .*3 of 3 are missing"):
        open_dataset(f"cars:{root}")


REFUSALS = {  # the first training image's annotation, and words of the message
    "label too high": ({"class": 4}, "image '00001.jpg': expected class 1 to 3, got 4"),
    "label zero": ({"class": 0}, "expected class 1 to 3, got 0"),
    "label no number": ({"class": "one"}, "'annotations.class': expected whole numbers, got 'one'"),
    "label a fraction": ({"class": 1.5}, "expected whole numbers, got 1.5"),
    "label missing": ({"class": np.zeros(0)}, "'annotations.class': expected whole numbers"),
    "box empty": ({"bbox_x2": 0}, "not empty, got 0 to 0 across and 2 to 8 down"),
    "box of nan": ({"bbox_y1": np.nan}, "'annotations.bbox_y1': expected whole numbers, got nan"),
    "name no text": ({"fname": 7}, "'annotations.fname': expected strings, got 7"),
    "name outside": ({"fname": "../../x.jpg"}, r"got '\.\./\.\./x\.jpg'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_naming_the_file(tmp_path, case):
    changes, words = REFUSALS[case]
    root = write_cars(tmp_path / "set", annotations(4, **changes), annotations(3), "devkit")
    with pytest.raises(EnvironmentFault, match=words) as caught:
        open_dataset(f"cars:{root}")
    assert str(root / "devkit" / "cars_train_annos.mat") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_annotations_without_labels_are_told_from_those_with(tmp_path):
    unlabelled = repack_fields(annotations(3)[[*FIELDS[:4], "fname"]])
    root = write_cars(tmp_path / "set", annotations(3), unlabelled, "devkit")
    with pytest.raises(EnvironmentFault, match=r"withlabels\.mat: variable 'annotations': .*got none with 'class'"):
        open_split(f"cars:{root}")


@pytest.mark.parametrize("name", ["cars_meta", "cars_train_annos", "cars_test_annos_withlabels"])
def test_a_missing_file_is_named_with_the_layout(tmp_path, name):
    root = write_cars(tmp_path / "set", annotations(3), annotations(3), "devkit")
    (root / "devkit" / f"{name}.mat").unlink()
    with pytest.raises(EnvironmentFault, match=rf"devkit/{name}\.mat: expected a file.*layout is cars_train/\*\.jpg"):
        open_dataset(f"cars:{root}")


@pytest.mark.parametrize("damage", ["empty", "text", "cut short", "another variable", "a number"])
def test_a_damaged_mat_file_is_named(tmp_path, damage):
    root = write_cars(tmp_path / "set", annotations(3), annotations(3), "devkit")
    path = root / "devkit" / "cars_train_annos.mat"
    whole = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("<html>404</html>" * 20)
        case "cut short":
            path.write_bytes(whole[: len(whole) // 2])
        case "another variable":
            savemat(path, {"labels": [1, 2]})
        case "a number":
            savemat(path, {"annotations": 7})
    with pytest.raises(EnvironmentFault) as caught:
        open_dataset(f"cars:{root}")
    assert str(caught.value).startswith(f"{path}: ")
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("a", "a", "b"), ("a",), (1, 2, 3)])
def test_class_names_are_checked(tmp_path, names):
    root = write_cars(tmp_path / "set", annotations(3), annotations(3), "devkit", names)
    with pytest.raises(EnvironmentFault, match=r"cars_meta\.mat: "):
        open_dataset(f"cars:{root}")


def test_another_folder_is_told_the_layout(tmp_path):
    (tmp_path / "car_ims").mkdir()
    with pytest.raises(EnvironmentFault, match=r"expected cars_train/\*\.jpg, .*got the folders 'car_ims'"):
        open_dataset(f"cars:{tmp_path}")


def test_without_scipy_the_error_names_the_extra(tmp_path, monkeypatch):
    root = write_cars(tmp_path / "set", annotations(3), annotations(3), "devkit")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(EnvironmentFault, match=r"'scipy'.*packnet-deploy\[train\]"):
        open_dataset(f"cars:{root}")
