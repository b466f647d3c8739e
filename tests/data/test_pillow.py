"""Every mode has its rule: 16 bits keep their range, EXIF turns what it can, what has no range is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.data.pillow import in_rgb, upright
from packnet_deploy.data.splits import FileSplit
from packnet_deploy.errors import EnvironmentFault

RAMP = np.arange(0, 1 << 16, 257).reshape(16, 16)  # of all 8-bit greys, in 16 bits


def _read(path: Path) -> np.ndarray:
    return np.asarray(FileSplit(np.zeros(1, np.int64), (str(path),)).image(0))


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_greys_of_16_bits_keep_their_range(tmp_path, suffix):
    path = _save(tmp_path / f"thermal.{suffix}", Image.fromarray(RAMP.astype(np.uint16)))
    np.testing.assert_array_equal(_read(path), np.repeat(np.arange(256).reshape(16, 16, 1), 3, axis=2))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I"])
def test_every_mode_of_16_bits(mode):
    dtype = {"I;16B": ">u2", "I": "<i4"}.get(mode, "<u2")
    image = Image.frombytes(mode, (16, 16), RAMP.astype(dtype).tobytes())
    np.testing.assert_array_equal(np.asarray(in_rgb(image))[..., 1], np.arange(256).reshape(16, 16))


def test_floating_point_is_0_to_1(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    read = _read(_save(tmp_path / "depth.tif", Image.fromarray(values)))
    np.testing.assert_array_equal(read[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0, 70000]], np.int32), r"32-bit integers outside 0\.\.65535 \(0 to 70000\)"),
        (np.array([[-1, 5]], np.int32), r"32-bit integers outside 0\.\.65535 \(-1 to 5\)"),
        (np.array([[0.5, 36.6]], np.float32), r"floating point outside 0\.\.1 \(0\.5 to 36\.6\)"),
        (np.array([[0.5, np.nan]], np.float32), r"floating point outside 0\.\.1"),
    ],
)
def test_values_without_a_range_are_refused(tmp_path, values, words):
    path = _save(tmp_path / "raw.tif", Image.fromarray(values))
    with pytest.raises(EnvironmentFault, match=rf"raw\.tif: expected a readable image, got: {words}"):
        _read(path)


def test_transparency_shows_the_colour_below_it(tmp_path):
    pixel = Image.new("RGBA", (1, 1), (10, 20, 30, 0))
    assert _read(_save(tmp_path / "logo.png", pixel)).tolist() == [[[10, 20, 30]]]
    assert _read(_save(tmp_path / "grey.png", Image.new("LA", (1, 1), (40, 7)))).tolist() == [[[40] * 3]]


def test_palettes_are_looked_up_and_inks_converted(tmp_path):
    colours = Image.new("P", (2, 1))
    colours.putpalette([1, 2, 3, 200, 100, 50])
    colours.putdata([0, 1])
    assert _read(_save(tmp_path / "palette.png", colours)).tolist() == [[[1, 2, 3], [200, 100, 50]]]
    inks = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    assert _read(_save(tmp_path / "inks.tif", inks)).tolist() == [[[0, 255, 255]]]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_frames_the_first_is_seen(tmp_path, suffix):
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 120, 255)]
    path = _save(tmp_path / f"moving.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    assert Image.open(path).n_frames == 3
    assert _read(path).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, orientation):
    seen = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    # How a camera held so stores what it sees, by EXIF's definition: where row 0 and column 0 of the file lie.
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: seen.transpose(1, 0, 2)[::-1],
        7: seen.transpose(1, 0, 2)[::-1, ::-1],
        8: seen.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif"):
        path = _save(tmp_path / f"photo.{suffix}", image, exif=exif)
        read = FileSplit(np.zeros(1, np.int64), (str(path),)).image(0)
        np.testing.assert_array_equal(np.asarray(upright(read)), seen)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0" * 40])
def test_damaged_exif_data_turn_nothing(tmp_path, exif):
    image = Image.effect_noise((6, 4), 64).convert("RGB")
    path = _save(tmp_path / "photo.png", image, exif=exif)
    read = FileSplit(np.zeros(1, np.int64), (str(path),)).image(0)
    np.testing.assert_array_equal(np.asarray(upright(read)), np.asarray(image))
