"""The built-in sets: shape, balance, always the same images, none in two parts, learnable and not trivial."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.data.builtin import LUMA, NAMES, SIDE, paint
from packnet_deploy.errors import EnvironmentFault

EXPECTED = {  # classes, train + val images, test images
    "digits": (10, 1438, 359),
    "letters": (26, 26 * 130, 26 * 40),
    "textures": (10, 10 * 200, 10 * 50),
}


@pytest.fixture(scope="module", params=NAMES)
def made(request):
    return request.param, open_dataset(f"builtin:{request.param}")


def _digest(split) -> str:
    return hashlib.sha256(split.pixels.tobytes() + split.labels.tobytes()).hexdigest()


def _images(split) -> set[bytes]:
    return {image.tobytes() for image in split.pixels}


def test_shapes_and_sizes(made):
    name, data = made
    classes, train, test = EXPECTED[name]
    assert len(data.classes) == len(set(data.classes)) == classes
    assert list(data.classes) == sorted(data.classes)
    assert (len(data.train) + len(data.val), len(data.test)) == (train, test)
    for split in (data.train, data.val, data.test):
        assert split.pixels.shape == (len(split), SIDE, SIDE, 3)
        assert (split.pixels.dtype, split.labels.dtype) == (np.dtype(np.uint8), np.dtype(np.int64))
    assert data.flip == (name == "textures")


def test_every_class_in_every_part_about_equally_often(made):
    _, data = made
    for split in (data.train, data.val, data.test):
        counts = np.bincount(split.labels, minlength=len(data.classes))
        assert counts.min() >= 0.9 * counts.max() - 1


def test_no_image_twice(made):
    _, data = made
    parts = [_images(split) for split in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [len(data.train), len(data.val), len(data.test)]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_made_again_the_images_are_the_same_and_only_the_held_out_ones_follow_the_seed(made):
    name, data = made
    again, other = open_dataset(f"builtin:{name}", seed=0), open_dataset(f"builtin:{name}", seed=1)
    assert [_digest(s) for s in (data.train, data.val, data.test)] == [
        _digest(s) for s in (again.train, again.val, again.test)
    ]
    assert _digest(other.test) == _digest(data.test)
    assert _digest(other.val) != _digest(data.val)
    assert _images(other.train) | _images(other.val) == _images(data.train) | _images(data.val)


def test_one_part_alone_is_the_same_as_in_the_whole(made):
    name, data = made
    classes, split = open_split(f"builtin:{name}")
    assert classes == data.classes
    assert _digest(split) == _digest(data.test)


def _nearest_mean_accuracy(data) -> float:
    """Accuracy on the test images of the nearest class mean over raw pixels: what needs no features at all."""
    train, test = (s.pixels.reshape(len(s), -1).astype(np.float32) for s in (data.train, data.test))
    means = np.stack([train[data.train.labels == c].mean(axis=0) for c in range(len(data.classes))])
    distance = (means**2).sum(axis=1) - 2 * test @ means.T
    return float((distance.argmin(axis=1) == data.test.labels).mean())


def test_raw_pixels_do_for_digits_only(made):
    name, data = made
    accuracy = _nearest_mean_accuracy(data)
    if name == "digits":
        assert accuracy > 0.85
    else:
        assert accuracy < 0.3


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("digits", "sklearn.datasets", "scikit-learn"), ("letters", "matplotlib", "matplotlib")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentFault, match=rf"builtin:{name} needs the package '{package}'.*\[train\]"):
        open_dataset(f"builtin:{name}")


def test_a_missing_font_is_named(monkeypatch):
    from packnet_deploy.data import letters

    monkeypatch.setattr(letters, "TEST_FONTS", ("NoSuchFont",))
    with pytest.raises(EnvironmentFault, match=r"NoSuchFont\.ttf: expected a font that matplotlib brings"):
        letters.make()


def test_paint_keeps_its_contrast_and_either_colour_may_be_the_darker():
    half = np.zeros((400, 8, 8), np.float32)
    half[:, :, 4:] = 1
    luma = paint(half, np.random.default_rng(0), contrast=(0.5, 0.6), noise=0) @ LUMA / 255
    step = luma[:, :, 4].mean(axis=1) - luma[:, :, 3].mean(axis=1)  # next to each other, so that shade matters little
    assert 0.4 < np.mean(step > 0) < 0.6
    assert np.percentile(np.abs(step), 5) > 0.3  # clipped tints change brightness somewhat
    assert np.percentile(np.abs(step), 95) < 0.75


def test_paint_adds_no_more_noise_than_asked():
    flat = np.zeros((50, 16, 16), np.float32)
    roughness = [
        np.abs(np.diff(paint(flat, np.random.default_rng(0), (0.3, 0.5), noise) / 255, 2, axis=1)).mean()
        for noise in (0, 0.05, 0.2)
    ]
    assert roughness[0] < 0.005
    assert 0.015 < roughness[1] < 0.1
    assert roughness[2] > 2 * roughness[1]
