"""``cub200:`` classes, parts and bounding boxes of CUB-200-2011, and every refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.data.batches import pixel_batches
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack.inputs import InputSpec

CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
FILES = {
    "images.txt": "".join(f"{i} {CLASSES[i % 2]}/bird {i}.jpg\n" for i in range(1, 9)),
    "image_class_labels.txt": "".join(f"{i} {i % 2 + 1}\n" for i in range(1, 9)),
    "train_test_split.txt": "".join(f"{i} {int(i <= 6)}\n" for i in range(1, 9)),
    "bounding_boxes.txt": "".join(f"{i} {i}.0 2.0 10.0 5.0\n" for i in range(1, 9)),
    "classes.txt": "".join(f"{i} {name}\n" for i, name in enumerate(CLASSES, 1)),
}


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Eight images of noise, 30 x 20; image i is of class i % 2, box (i, 2) to (i + 10, 7); six of them train."""
    root = tmp_path / "CUB_200_2011"
    root.mkdir()
    for name, text in FILES.items():
        (root / name).write_text(text)
    rng = np.random.default_rng(0)
    for line in FILES["images.txt"].splitlines():
        path = root / "images" / line.split(maxsplit=1)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return root


def test_classes_parts_and_labels(birds):
    data = open_dataset(f"cub200:{birds}", seed=3, val_fraction=0.34)
    assert data.classes == CLASSES
    assert (len(data.train), len(data.val), len(data.test), data.flip) == (4, 2, 2, True)
    assert data.summary() == (
        f"cub200:{birds}: 2 classes; 4 images to train, 2 to select (held out of its train images, seed 3), "
        "2 for the final figure (its test images)"
    )
    for split in (data.train, data.val, data.test):
        assert all(CLASSES[label] in split.name(i) for i, label in enumerate(split.labels))
    assert [Path(data.test.name(i)).name for i in (0, 1)] == ["bird 7.jpg", "bird 8.jpg"]


def test_images_are_cropped_to_their_boxes_and_seen_whole(birds):
    split = open_split(f"cub200:{birds}")[1]
    spec = InputSpec((3, 8, 12), (0.0,) * 3, (1.0,) * 3, 16).framed(None, split.boxed)
    ((pixels, _),) = pixel_batches(split, spec, 2)
    for row, left in zip(pixels, (7, 8), strict=True):
        photo = Image.open(birds / "images" / CLASSES[left % 2] / f"bird {left}.jpg").convert("RGB")
        expected = photo.crop((left, 2, left + 10, 7)).resize((12, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(row.transpose(1, 2, 0), np.asarray(expected))


def test_the_folder_above_will_do(birds):
    assert len(open_split(f"cub200:{birds.parent}", "train")[1]) == 6


def test_capitals_in_file_names_do_not_matter(birds):
    path = birds / "images" / CLASSES[1] / "bird 7.jpg"
    path.rename(path.with_name("Bird 7.JPG"))
    (birds / "images.txt").write_text(FILES["images.txt"].replace("bird 8.jpg", "BIRD 8.jpg"))
    split = open_split(f"cub200:{birds}")[1]
    assert [Path(split.name(i)).name for i in (0, 1)] == ["Bird 7.JPG", "bird 8.jpg"]
    assert split.image(0).size == (10, 5)


def test_there_are_no_validation_images_of_its_own(birds):
    with pytest.raises(UsageError, match=r"split: expected one of train, test, which .*CUB_200_2011 has, got 'val'"):
        open_split(f"cub200:{birds}", "val")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_layout(birds, name):
    (birds / name).unlink()
    with pytest.raises(EnvironmentFault, match=r"images/CLASS/\*\.jpg beside images\.txt") as caught:
        open_dataset(f"cub200:{birds}")
    assert str(caught.value).startswith(f"{birds if name == 'images.txt' else birds / name}: expected ")


REFUSALS = {  # file, a line of it, what stands there instead, words of the message
    "path outside": ("images.txt", f"1 {CLASSES[1]}/bird 1.jpg", "1 ../../x.jpg", r"got '\.\./\.\./x\.jpg'"),
    "absolute path": ("images.txt", f"1 {CLASSES[1]}/bird 1.jpg", "1 /etc/x.jpg", "got '/etc/x.jpg'"),
    "no path": ("images.txt", f"1 {CLASSES[1]}/bird 1.jpg", "1", "line 1: expected IMAGE-ID PATH, got '1'"),
    "missing image": (
        "images.txt",
        f"3 {CLASSES[1]}/bird 3.jpg",
        f"3 {CLASSES[1]}/gone.jpg",
        r"gone\.jpg: expected the image that .*images\.txt lists, got nothing; 1 of 6 are missing",
    ),
    "id twice": ("images.txt", f"2 {CLASSES[0]}", f"1 {CLASSES[0]}", "expected each IMAGE-ID once, got 1 twice"),
    "id no number": ("images.txt", f"2 {CLASSES[0]}", f"two {CLASSES[0]}", "expected a whole number, got 'two'"),
    "label too high": ("image_class_labels.txt", "1 2\n", "1 3\n", r"bird 1\.jpg': expected class 1 to 2, got 3"),
    "label zero": ("image_class_labels.txt", "1 2\n", "1 0\n", "expected class 1 to 2, got 0"),
    "label no number": ("image_class_labels.txt", "1 2\n", "1 -2\n", "expected a whole number, got '-2'"),
    "label missing": ("image_class_labels.txt", "3 2\n", "", r"images of images\.txt, got none with id 3"),
    "label of no image": ("image_class_labels.txt", "8 1\n", "8 1\n9 1\n", "got also one with id 9"),
    "split neither": ("train_test_split.txt", "1 1\n", "1 2\n", "expected 0 or 1, got 2"),
    "empty box": ("bounding_boxes.txt", "1 1.0 2.0 10.0", "1 1.0 2.0 0.0", "not empty, got 1 to 1 across"),
    "negative box": (
        "bounding_boxes.txt",
        "2.0 10.0 5.0\n2",
        "2.0 10.0 -5.0\n2",
        "got 1 to 11 across and 2 to -3 down",
    ),
    "box of nan": ("bounding_boxes.txt", "1 1.0 2.0 10.0", "1 nan 2.0 10.0", "not empty, got nan to nan across"),
    "endless box": ("bounding_boxes.txt", "1 1.0 2.0 10.0", "1 1.0 2.0 inf", "got 1 to inf across"),
    "far box": ("bounding_boxes.txt", "1 1.0 2.0 10.0", "1 1.0 2.0 1e30", "got 1 to 1e.30 across"),
    "box no numbers": ("bounding_boxes.txt", "1 1.0 2.0", "1 x 2.0", "a box of four numbers, got 'x 2.0 10.0 5.0'"),
    "class ids": ("classes.txt", "1 001", "3 001", "expected class ids 1 to 2, got others"),
    "class twice": ("classes.txt", CLASSES[1], CLASSES[0], f"got '{CLASSES[0]}' twice"),
    "one class": ("classes.txt", f"2 {CLASSES[1]}\n", "", "two or more different class names, got 1"),
    "control character": ("classes.txt", "001.Black", "\x1b[31m", "printable UTF-8"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_naming_the_file(birds, case):
    name, old, new, words = REFUSALS[case]
    assert old in FILES[name]
    (birds / name).write_text(FILES[name].replace(old, new, 1))
    with pytest.raises(EnvironmentFault, match=words) as caught:
        open_dataset(f"cub200:{birds}")
    assert str(birds) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_utf8_are_named_by_line(birds):
    (birds / "classes.txt").write_bytes(b"1 a\n2 \xff\n")
    with pytest.raises(EnvironmentFault, match=r"classes\.txt: line 2: expected UTF-8, got the byte 0xff"):
        open_dataset(f"cub200:{birds}")


def test_a_box_reaching_over_the_edge_is_cut_and_one_beyond_it_names_the_image(birds):
    boxes = FILES["bounding_boxes.txt"].replace("7 7.0 2.0 10.0", "7 25.5 -3.0 10.0").replace("8 8.0", "8 30.0")
    (birds / "bounding_boxes.txt").write_text(boxes)
    split = open_split(f"cub200:{birds}")[1]
    assert split.image(0).size == (5, 2)
    with pytest.raises(EnvironmentFault, match=r"bird 8\.jpg: .*box \[30, 2, 40, 7\] lies outside its 30 x 20 pixels"):
        split.image(1)
