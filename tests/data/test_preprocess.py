"""Pixels equal torchvision's and Pillow's, bit for bit, in every framing; random cuts stay inside, reach every place
and follow their generator.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from packnet_deploy.data.preprocess import DRAWS, Pixels, ResizedImages, centre, mirrored, random_cut, resized
from packnet_deploy.data.splits import ArraySplit, FileSplit
from packnet_deploy.pack.inputs import InputSpec

SIDE = st.integers(1, 90)
BILINEAR = Image.Resampling.BILINEAR


def _spec(channels: int, height: int, width: int, resize: int, **said: Any) -> InputSpec:
    return InputSpec((channels, height, width), (0.0,) * channels, (1.0,) * channels, resize, **said)


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """As Pillow did it up to version 12, and still does most images: across, then down."""
    return image.resize((size[0], image.height), BILINEAR).resize(size, BILINEAR)


def _augmented(image: Image.Image, spec: InputSpec, rng: np.random.Generator, flip: bool) -> Pixels:
    return _view(resized(image, spec), spec, rng, flip)


def _view(pixels: Pixels, spec: InputSpec, rng: np.random.Generator, flip: bool = True) -> Pixels:
    draws = rng.random(DRAWS)
    cut = random_cut(pixels, spec, draws)
    return mirrored(cut, draws) if flip else cut


@settings(max_examples=200, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(1, 60), st.sampled_from([1, 3]))
def test_centre_equals_torchvision(width, height, cut_height, cut_width, resize, channels):
    from torchvision.transforms import v2

    image = _noise(width, height)
    grey = v2.Grayscale()(image) if channels == 1 else image
    theirs = v2.Compose([v2.CenterCrop((cut_height, cut_width)), v2.PILToTensor()])(
        _resized(grey, v2.Resize(resize)(grey).size)
    )
    ours = centre(image, _spec(channels, cut_height, cut_width, resize))
    assert (ours.dtype, ours.flags.c_contiguous) == (np.dtype(np.uint8), True)
    np.testing.assert_array_equal(ours, theirs.numpy())


@settings(max_examples=100, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(1, 60), st.sampled_from([1, 3]))
def test_whole_images_equal_torchvision(width, height, cut_height, cut_width, resize, channels):
    from torchvision.transforms import v2

    image = _noise(width, height)
    grey = v2.Grayscale()(image) if channels == 1 else image
    theirs = v2.PILToTensor()(_resized(grey, v2.Resize((cut_height, cut_width))(grey).size))
    ours = centre(image, _spec(channels, cut_height, cut_width, resize, framing="whole"))
    np.testing.assert_array_equal(ours, theirs.numpy())


@settings(max_examples=200, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from([1, 3]))
def test_padded_images_equal_pillow_and_torchvision(width, height, cut_height, cut_width, channels):
    from torchvision.transforms import v2

    image = _noise(width, height)
    grey = v2.Grayscale()(image) if channels == 1 else image
    spec = _spec(channels, cut_height, cut_width, 8, framing="pad")
    fitting = ImageOps.contain(grey, (cut_width, cut_height)).size
    assume(0 not in fitting)
    theirs = v2.Compose([v2.CenterCrop((cut_height, cut_width)), v2.PILToTensor()])(_resized(grey, fitting))
    np.testing.assert_array_equal(centre(image, spec), theirs.numpy())


def test_pixels_do_not_depend_on_the_order_that_pillow_prefers():
    """Found with Pillow 13: it resizes tall images down first, and 6 % of all sizes came out otherwise than in C++."""
    image = _noise(59, 393)
    ours = centre(image, _spec(3, 246, 37, 37))
    np.testing.assert_array_equal(ours.transpose(1, 2, 0), np.asarray(_resized(image, (37, 246))))


def test_a_line_stays_a_pixel_wide_when_padded():
    assert centre(Image.new("RGB", (1, 90), "white"), _spec(3, 8, 8, 8, framing="pad")).any()


def test_a_tall_object_is_all_there_when_padded_and_only_then():
    pole = np.zeros((90, 10, 3), np.uint8)
    pole[:10] = pole[-10:] = 255  # its ends
    padded = centre(Image.fromarray(pole), _spec(3, 30, 30, 30, framing="pad", fill=100))
    assert (padded[:, 0, 14].tolist(), padded[:, -1, 14].tolist()) == ([255] * 3, [255] * 3)
    assert set(padded[:, :, :13].ravel()) == set(padded[:, :, 17:].ravel()) == {100}
    assert centre(Image.fromarray(pole), _spec(3, 30, 30, 30)).max() == 0


def test_what_an_image_does_not_reach_is_filled():
    image = Image.new("RGB", (4, 4), (9, 9, 9))
    cut = centre(image, _spec(3, 6, 4, 4, fill=77))
    assert [int(row.min()) for row in cut[0]] == [77, 9, 9, 9, 9, 77]


@pytest.mark.parametrize("framing", ["whole", "pad"])
def test_images_that_are_all_seen_are_only_mirrored_in_training(framing):
    spec = _spec(3, 6, 10, 8, framing=framing)
    split = ArraySplit(np.zeros(2, np.int64), np.asarray(_noise(40, 60)).reshape(2, 30, 40, 3), "made")
    images, rng = ResizedImages(split, spec), np.random.default_rng(0)
    for i in range(2):
        seen = centre(split.image(i), spec)
        views = {_view(images[i], spec, rng).tobytes() for _ in range(40)}
        assert views == {seen.tobytes(), seen[:, :, ::-1].tobytes()}


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(1, 60), st.sampled_from([1, 3]), st.booleans())
def test_augmented_shape_and_type(width, height, cut_height, cut_width, resize, channels, flip):
    spec = _spec(channels, cut_height, cut_width, resize)
    view = _augmented(_noise(width, height), spec, np.random.default_rng(0), flip)
    assert (view.shape, view.dtype) == (spec.shape, np.dtype(np.uint8))


def test_random_cuts_reach_every_place_alike_and_mirror_half():
    # 7 x 6 pixels that all differ, cut to 5 x 5: 2 rows x 3 columns x 2 directions.
    pixels = np.arange(42, dtype=np.uint8).reshape(6, 7)
    image = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
    spec, rng, seen = _spec(3, 5, 5, 6), np.random.default_rng(0), {}
    for _ in range(2400):
        view = _augmented(image, spec, rng, flip=True)[0]
        mirrored = view[0, 0] > view[0, 1]
        top, left = divmod(int(view[0, -1 if mirrored else 0]), 7)
        expected = pixels[top : top + 5, left : left + 5]
        np.testing.assert_array_equal(view, expected[:, ::-1] if mirrored else expected)
        seen[top, left, mirrored] = seen.get((top, left, mirrored), 0) + 1
    assert len(seen) == 12
    assert min(seen.values()) > 140  # 200 expected, standard deviation 13.5


def test_nothing_is_mirrored_unless_allowed():
    pixels = np.tile(np.arange(8, dtype=np.uint8)[None, :, None], (8, 1, 3))
    rng = np.random.default_rng(0)
    for _ in range(50):
        view = _augmented(Image.fromarray(pixels), _spec(3, 5, 5, 8), rng, flip=False)
        assert view[0, 0, 0] < view[0, 0, 1]


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_follows_its_generator(flip):
    image, spec = _noise(40, 30), _spec(3, 16, 16, 24)
    views = [_augmented(image, spec, np.random.default_rng(seed), flip) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_exif_orientation_is_applied_where_the_description_says_so(tmp_path):
    image = _noise(12, 8)
    exif = image.getexif()
    exif[0x0112] = 6  # turn by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    read = FileSplit(np.zeros(1, np.int64), (str(tmp_path / "turned.png"),)).image(0)
    as_seen, as_stored = _spec(3, 12, 8, 8), _spec(3, 8, 12, 8, exif_orientation=False)
    pixels = np.asarray(image).transpose(2, 0, 1)
    np.testing.assert_array_equal(centre(read, as_seen), np.rot90(pixels, -1, (1, 2)))
    np.testing.assert_array_equal(centre(read, as_stored), pixels)


def test_a_box_is_of_the_image_as_it_is_stored(tmp_path):
    image = _noise(12, 8)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    split = FileSplit(np.zeros(1, np.int64), (str(tmp_path / "turned.png"),), np.array([[1, 2, 6, 8]]))
    spec = _spec(3, 5, 6, 5, framing="whole", boxes=True)
    boxed = np.asarray(image.crop((1, 2, 6, 8))).transpose(2, 0, 1)
    np.testing.assert_array_equal(ResizedImages(split, spec)[0], np.rot90(boxed, -1, (1, 2)))
    unboxed = ResizedImages(split, replace(spec, boxes=False))[0]
    expected = _resized(image.transpose(Image.Transpose.ROTATE_270), (6, 5))
    np.testing.assert_array_equal(unboxed.transpose(1, 2, 0), np.asarray(expected))
