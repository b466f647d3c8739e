"""``--skip-bad-images``: what cannot be read is found, left out and listed; without it, it stops everything."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.errors import EnvironmentFault


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten noisy JPEG photos a class to train, four to test."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 4)):
        for label in ("cat", "dog"):
            (tmp_path / "set" / part / label).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
                image.save(tmp_path / "set" / part / label / f"{i:03}.jpg")
    return tmp_path / "set"


def _damage(path: Path, how: str) -> str:
    match how:
        case "cut short":
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
        case "text":
            path.write_text("<html>")
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
            path.symlink_to("/nowhere")
    return str(path)


def _names(*splits) -> set[str]:
    return {split.name(i) for split in splits for i in range(len(split))}


@pytest.mark.parametrize("how", ["cut short", "text", "empty", "gone"])
def test_bad_images_are_left_out_and_listed(photos, how):
    every = set(map(str, photos.rglob("*.jpg")))
    bad = (_damage(photos / "train/cat/003.jpg", how), _damage(photos / "test/dog/000.jpg", how))
    data = open_dataset(photos, skip_bad_images=True)
    assert data.skipped == bad
    assert _names(data.train, data.val, data.test) == every - set(bad)
    assert (len(data.train), len(data.val), len(data.test)) == (17, 2, 7)
    for split in (data.train, data.val, data.test):
        assert all(("dog" in split.name(i)) == label for i, label in enumerate(split.labels))
        for i in range(len(split)):
            split.image(i)


def test_one_part_lists_its_own(photos):
    bad = _damage(photos / "test/dog/000.jpg", "cut short")
    _damage(photos / "train/dog/000.jpg", "cut short")
    split = open_split(photos, classes=("ape", "cat", "dog"), skip_bad_images=True)[1]
    assert (split.skipped, len(split), set(split.labels.tolist())) == ((bad,), 7, {1, 2})


def test_where_all_is_well_nothing_changes(photos):
    plain, checked = open_dataset(photos, seed=4), open_dataset(photos, seed=4, skip_bad_images=True)
    assert checked.skipped == plain.skipped == ()
    for part in ("train", "val", "test"):
        assert getattr(plain, part).paths == getattr(checked, part).paths


def test_otherwise_the_first_is_named_with_the_flag(photos):
    bad = _damage(photos / "test/cat/002.jpg", "cut short")
    split = open_dataset(photos).test
    with pytest.raises(EnvironmentFault, match=r"truncated.*--skip-bad-images") as caught:
        split.image(split.paths.index(bad))
    assert str(caught.value).startswith(bad)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_must_not_lose_all_its_images(photos, part):
    for path in (photos / part / "dog").iterdir():
        _damage(path, "text")
    with pytest.raises(EnvironmentFault, match=rf"read in every class, got none in 'dog' \(.*{part}/dog/000\.jpg"):
        open_dataset(photos, skip_bad_images=True)


def test_a_missing_pillow_does_not_pass_for_bad_images(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(EnvironmentFault, match="'pillow'"):
        open_dataset(photos, skip_bad_images=True)


def test_built_in_images_are_all_good():
    assert open_dataset("builtin:digits", skip_bad_images=True).skipped == ()


@pytest.mark.parametrize("size", [(60000, 1), (1, 129), (16384, 8193)])
def test_an_image_too_large_to_resize_is_refused_by_its_header(tmp_path, size):
    """A stripe of 60,000 pixels by 1, its shorter side resized to 256, would be 3 GB."""
    from PIL import Image

    from packnet_deploy.data import pillow as door

    path = tmp_path / "stripe.bmp"
    with path.open("wb") as file:  # a header and no pixels: whoever decodes them finds the file cut short
        Image.new("1", (1, 1)).save(file, "bmp")
    content = bytearray(path.read_bytes())
    content[18:26] = size[0].to_bytes(4, "little") + size[1].to_bytes(4, "little")
    path.write_bytes(content)
    for read in (door.read_rgb, door.size_of):
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels, more than 134,217,728 or one side more"):
            read(path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_headers_are_read_before_training(write_set, part):
    """A test image that is none would otherwise be met after the last epoch."""
    from packnet_deploy.data.imageset import check_headers

    root = write_set(train={"cat": 4, "dog": 4}, test={"cat": 2, "dog": 2})
    check_headers(open_dataset(root))
    (root / part / "dog/001.png").write_bytes(b"not a picture")
    with pytest.raises(
        EnvironmentFault, match=rf"{part}/dog/001\.png: expected a readable image, got: its content is no"
    ):
        check_headers(open_dataset(root))
