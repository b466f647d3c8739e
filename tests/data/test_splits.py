"""The stratified split, the split types, and what a missing Pillow says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from packnet_deploy.data.splits import ArraySplit, FileSplit, listing, relabelled, stratified_split
from packnet_deploy.errors import EnvironmentFault

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda values: np.array(values, np.int64))


@given(LABELS, st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_split_is_a_partition_with_every_class_on_both_sides(labels, fraction, seed):
    kept, drawn = stratified_split(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, drawn])), np.arange(len(labels)))
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(drawn) > 0)
    for label in np.unique(labels):
        count = int(np.sum(labels == label))
        taken = int(np.sum(labels[drawn] == label))
        if count == 1:
            assert taken == 0
        else:
            assert 1 <= taken <= count - 1
            assert abs(taken - fraction * count) <= 1


def test_split_follows_its_seed():
    labels = np.repeat(np.arange(5), 40)
    drawn = [stratified_split(labels, 0.1, seed)[1] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert drawn[0].tolist() != drawn[2].tolist()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_split_refuses_a_fraction_that_leaves_nothing(fraction):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        stratified_split(np.zeros(4, np.int64), fraction, 0)


def test_subsets_keep_image_label_and_name_together():
    pixels = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(3, axis=3)
    arrays = ArraySplit(np.arange(5), pixels, "made").subset(np.array([4, 1]))
    assert [int(np.asarray(arrays.image(i))[0, 0, 0]) for i in range(len(arrays))] == [4, 1]
    assert arrays.labels.tolist() == [4, 1]
    files = FileSplit(np.arange(5), tuple("abcde")).subset(np.array([4, 1]))
    assert [files.name(i) for i in range(len(files))] == ["e", "b"]
    assert files.labels.tolist() == [4, 1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_image_mode_is_read_as_rgb(tmp_path: Path, mode):
    path = tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}"
    Image.new(mode, (5, 4)).save(path)
    image = FileSplit(np.zeros(1, np.int64), (str(path),)).image(0)
    assert (image.mode, image.size) == ("RGB", (5, 4))


def _png(tmp_path: Path) -> bytes:
    Image.effect_noise((32, 32), 64).save(tmp_path / "whole.png")
    return (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize("damage", ["empty", "text", "cut short", "garbled", "gone", "folder"])
def test_an_unreadable_image_is_one_line_with_its_path(tmp_path: Path, damage):
    path = tmp_path / "bad.png"
    whole = _png(tmp_path)
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not an image")
        case "cut short":
            path.write_bytes(whole[: len(whole) // 2])
        case "garbled":
            path.write_bytes(whole[:60] + bytes(255 - b for b in whole[60:200]) + whole[200:])
        case "folder":
            path.mkdir()
    with pytest.raises(EnvironmentFault) as caught:
        FileSplit(np.zeros(1, np.int64), (str(path),)).image(0)
    assert str(caught.value).startswith(f"{path}: expected a readable image, got: ")
    assert "\n" not in str(caught.value)


def test_whatever_the_decoder_says_is_put_on_one_line(tmp_path: Path, monkeypatch):
    def fail(path):
        raise ValueError("first\n  second")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(EnvironmentFault, match="got: first second; replace"):
        FileSplit(np.zeros(1, np.int64), ("x.png",)).image(0)


def test_labels_are_counted_in_the_classes_of_a_trained_task():
    split = ArraySplit(np.array([0, 1, 1]), np.zeros((3, 1, 1, 3), np.uint8), "made")
    assert relabelled(split, ["b", "c"], ["a", "b", "c"], "made").labels.tolist() == [1, 2, 2]
    with pytest.raises(EnvironmentFault, match=r"dir: expected only the task's 2 classes \('a', 'b'\), got also 'c'"):
        relabelled(split, ["b", "c"], ["a", "b"], "dir")


def test_without_pillow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    split = ArraySplit(np.zeros(1, np.int64), np.zeros((1, 1, 1, 3), np.uint8), "made")
    with pytest.raises(EnvironmentFault, match=r"'pillow'.*packnet-deploy\[images\]"):
        split.image(0)


def test_listing_says_how_many_it_leaves_out():
    assert listing(["a", "b"]) == "'a', 'b'"
    assert listing(list("abcdefg")) == "'a', 'b', 'c', 'd', 'e' and 2 more"
