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
