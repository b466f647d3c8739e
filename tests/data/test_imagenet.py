"""``imagenet:`` class folders, the flat validation folder with the devkit's ground truth, and every refusal."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.errors import EnvironmentFault

WNIDS = ("n01440764", "n02012849", "n03126707")  # in the devkit's own order: 2, 3, 1
DEVKIT = Path("ILSVRC2012_devkit_t12") / "data"
TRUTH = [2, 3, 1, 1, 2]  # class ids of validation images 1 to 5
SYNSETS = [(1, WNIDS[2], 0), (2, WNIDS[0], 0), (3, WNIDS[1], 0), (1001, "n00001740", 3)]


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path, format="JPEG")


def write_devkit(root: Path, synsets=SYNSETS, truth="2\n3\n1\n1\n2\n") -> None:
    (root / DEVKIT).mkdir(parents=True, exist_ok=True)
    fields = ("ILSVRC2012_ID", "WNID", "num_children")
    records = np.array([tuple(row) for row in synsets], [(field, object) for field in fields])
    savemat(root / DEVKIT / "meta.mat", {"synsets": records})
    (root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Two training images a class, no validation images."""
    root = tmp_path / "imagenet"
    for wnid in WNIDS:
        for i in range(2):
            _image(root / "train" / wnid / f"{wnid}_{i}.JPEG")
    return root


@pytest.fixture
def folders(train: Path) -> Path:
    for i, class_id in enumerate(TRUTH, 1):
        wnid = dict((row[0], row[1]) for row in SYNSETS)[class_id]
        _image(train / "val" / wnid / f"ILSVRC2012_val_{i:08}.JPEG")
    return train


@pytest.fixture
def flat(train: Path) -> Path:
    for i in range(1, len(TRUTH) + 1):
        _image(train / "val" / f"ILSVRC2012_val_{i:08}.JPEG")
    write_devkit(train)
    return train


def _labelled(split) -> dict[str, int]:
    return {Path(split.name(i)).name: int(label) for i, label in enumerate(split.labels)}


def test_class_folders(folders):
    data = open_dataset(f"imagenet:{folders}", val_fraction=0.5)
    assert data.classes == WNIDS
    assert (len(data.train), len(data.val), len(data.test)) == (3, 3, 5)
    assert (data.val_from, data.test_from) == ("held out of train/, seed 0", "val/")


def test_one_folder_with_the_ground_truth_is_the_same_set(flat):
    by_list = _labelled(open_split(f"imagenet:{flat}")[1])
    assert list(by_list.values()) == [0, 1, 2, 2, 0]  # 2, 3, 1, 1, 2 by WordNet id
    assert open_dataset(f"imagenet:{flat.parent}").classes == WNIDS
    for name, label in by_list.items():
        (flat / "val" / WNIDS[label]).mkdir(exist_ok=True)
        shutil.move(flat / "val" / name, flat / "val" / WNIDS[label] / name)
    assert _labelled(open_split(f"imagenet:{flat}")[1]) == by_list


def test_little_of_so_many_images_is_held_out(tmp_path):
    for wnid in WNIDS:
        for i in range(100):
            path = tmp_path / "train" / wnid / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        _image(tmp_path / "val" / wnid / "0.JPEG")
    assert len(open_dataset(f"imagenet:{tmp_path}").val) == 6


def test_the_classes_of_pretrained_networks_are_these_in_order(folders):
    classes, split = open_split(f"imagenet:{folders}", classes=("tench", "crane bird", "crane"))
    assert classes == ("tench", "crane bird", "crane")
    assert sorted(split.labels.tolist()) == [0, 0, 1, 2, 2]
    for others in (("tench", "crane"), ("tench", "crane", "lens cap", "moped"), (WNIDS[0], "crane", "moped")):
        with pytest.raises(EnvironmentFault, match="got also 'n0"):
            open_split(f"imagenet:{folders}", classes=others)
    assert open_split(f"imagenet:{folders}", classes=WNIDS[::-1])[1].labels.tolist() == [2, 2, 1, 0, 0]


def test_a_part_needs_no_other(folders):
    shutil.rmtree(folders / "train")
    for part in ("test", "val"):
        assert len(open_split(f"imagenet:{folders}", part)[1]) == 5
    with pytest.raises(EnvironmentFault, match=r"imagenet/train: expected .*train/n01440764/\*\.JPEG and val/"):
        open_dataset(f"imagenet:{folders}")
    with pytest.raises(EnvironmentFault, match=r"train/n01440764/\*\.JPEG.*got the folders 'val'"):
        open_split(f"imagenet:{folders}", "train")


def test_other_class_folders_are_another_layout(folders):
    (folders / "train" / WNIDS[0]).rename(folders / "train" / "tench")
    with pytest.raises(EnvironmentFault, match=r"WordNet id \(n01440764\), got 'tench'; use imagefolder:"):
        open_dataset(f"imagenet:{folders}")


def test_both_parts_have_the_same_classes(flat):
    shutil.rmtree(flat / "train" / WNIDS[1])
    with pytest.raises(EnvironmentFault, match=f"the same classes in train/ and val/, got: only val/ has '{WNIDS[1]}'"):
        open_dataset(f"imagenet:{flat}")


@pytest.mark.parametrize("name", ["meta.mat", "ILSVRC2012_validation_ground_truth.txt"])
def test_one_folder_needs_the_devkit(flat, name):
    (flat / DEVKIT / name).unlink()
    with pytest.raises(EnvironmentFault, match=rf"data/{name}: expected a file.*layout is train/n01440764"):
        open_split(f"imagenet:{flat}")


REFUSALS = {  # what the devkit says instead, and words of the message
    "id of no class": ({"truth": "2\n3\n1\n1\n4\n"}, r"ground_truth\.txt: expected class ids of .*meta\.mat, got 4"),
    "id of a group": ({"truth": "2\n3\n1\n1\n1001\n"}, "got 1001"),
    "no number": ({"truth": "2\n3\n1\n1\nx\n"}, "expected a whole number, got 'x'"),
    "no images": ({"truth": ""}, "expected images, it lists none"),
    "more images": ({"truth": "2\n3\n1\n1\n2\n2\n"}, r"val_00000006\.JPEG: .*1 of 6 are missing"),
    "class twice": ({"synsets": [*SYNSETS[:3], (4, WNIDS[0], 0)]}, f"got '{WNIDS[0]}' twice"),
    "class no text": ({"synsets": [*SYNSETS[:3], (4, 5, 0)]}, "'synsets.WNID': expected strings, got 5"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_naming_the_file(flat, case):
    changes, words = REFUSALS[case]
    write_devkit(flat, **changes)
    with pytest.raises(EnvironmentFault, match=words) as caught:
        open_dataset(f"imagenet:{flat}")
    assert str(flat) in str(caught.value)
    assert "\n" not in str(caught.value)
