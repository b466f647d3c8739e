"""The input description, its hash, and the probe images that every language must make alike."""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack import InputSpec, probe_batch, probe_pixels

IMAGENET = InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256)
FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


def pixel_of_the_format(n: int, c: int, y: int, x: int, channels: int) -> int:
    """docs/format.md's four lines, in Python's unbounded integers."""
    s = (((n * channels + c) * 16384 + y // 4) * 16384 + x // 4 + 0x9E3779B9) % 2**32
    s = ((s ^ (s >> 16)) * 0x85EBCA6B) % 2**32
    s = ((s ^ (s >> 13)) * 0xC2B2AE35) % 2**32
    return (s ^ (s >> 16)) >> 24


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40), st.data())
def test_probe_pixels_are_those_of_the_format(channels: int, height: int, width: int, data: st.DataObject) -> None:
    spec = InputSpec((channels, height, width), (0.5,) * channels, (0.5,) * channels, 8)
    pixels = probe_pixels(spec)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, channels, height, width)
    for _ in range(20):
        n, c = data.draw(st.integers(0, 3)), data.draw(st.integers(0, channels - 1))
        y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        assert pixels[n, c, y, x] == pixel_of_the_format(n, c, y, x, channels)


def test_probe_images_use_the_whole_range() -> None:
    pixels = probe_pixels(IMAGENET)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert 120 < pixels.mean() < 135
    assert len({image.tobytes() for image in pixels}) == 4


def test_images_are_normalised_per_channel() -> None:
    spec = InputSpec((3, 1, 2), (0.0, 0.5, 1.0), (1.0, 0.5, 2.0), 1)
    pixels = np.array([[[[0, 255]]] * 3], np.uint8).reshape(1, 3, 1, 2)
    normalised = spec.normalise(pixels)
    assert normalised.dtype == np.float32
    assert normalised.tolist() == [[[[0, 1]], [[-1, 1]], [[-0.5, 0]]]]
    assert probe_batch(spec).tobytes() == spec.normalise(probe_pixels(spec)).tobytes()


def test_the_hash_is_of_the_text_that_the_format_shows() -> None:
    def bits(values: tuple[float, ...]) -> str:
        return " ".join(struct.pack(">f", value).hex() for value in values)

    text = (
        f"layout NCHW\nshape 3 224 224\nmean {bits(IMAGENET.mean)}\nstd {bits(IMAGENET.std)}\nresize 256\n"
        "exif_orientation true\n"
    )
    assert IMAGENET.sha256 == hashlib.sha256(text.encode("ascii")).hexdigest()
    shown = re.search(r"^layout NCHW.*$", FORMAT.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown is not None
    pattern = re.escape(shown[0].replace("\\n", "\n")).replace(r"\ \.\.\.", " [0-9a-f ]*")
    assert re.fullmatch(pattern, text)


def test_anything_that_changes_an_image_changes_the_hash() -> None:
    others = [
        InputSpec((3, 224, 225), IMAGENET.mean, IMAGENET.std, 256),
        InputSpec((3, 225, 224), IMAGENET.mean, IMAGENET.std, 256),
        InputSpec((3, 224, 224), (0.485, 0.456, 0.407), IMAGENET.std, 256),
        InputSpec((3, 224, 224), IMAGENET.mean, (0.229, 0.225, 0.224), 256),
        InputSpec((3, 224, 224), IMAGENET.mean, IMAGENET.std, 255),
        InputSpec((3, 224, 224), IMAGENET.std, IMAGENET.mean, 256),
        replace(IMAGENET, framing="whole"),
        replace(IMAGENET, framing="pad"),
        replace(IMAGENET, framing="pad", fill=1),
        replace(IMAGENET, boxes=True),
        replace(IMAGENET, exif_orientation=False),
    ]
    assert len({IMAGENET.sha256, *(spec.sha256 for spec in others)}) == 12


def test_every_description_says_everything() -> None:
    assert IMAGENET.to_json() == {
        "shape": [3, 224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "resize": 256,
        "layout": "NCHW",
        "framing": "crop",
        "fill": 0,
        "boxes": False,
        "exif_orientation": True,
        "colours": "RGB",
        "scale": 255,
        "interpolation": "bilinear",
    }


def test_a_description_from_before_there_was_a_choice_means_what_was_done() -> None:
    """Images were cut from the middle, as they are stored; the hash of such a description is what it was."""
    early = {name: IMAGENET.to_json()[name] for name in ("shape", "mean", "std", "resize", "layout")}
    read = InputSpec.from_json(early, "here")
    assert read == replace(IMAGENET, exif_orientation=False)
    numbers = (struct.pack(f">{len(values)}f", *values).hex(" ", 4) for values in (IMAGENET.mean, IMAGENET.std))
    text = "layout NCHW\nshape 3 224 224\nmean {}\nstd {}\nresize 256\n".format(*numbers)
    assert read.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_sets_with_boxes_are_framed_whole_unless_asked_otherwise() -> None:
    padded = replace(IMAGENET, framing="pad")
    assert IMAGENET.framed(None, boxes=False) == IMAGENET
    assert padded.framed(None, boxes=False) == padded
    assert IMAGENET.framed(None, boxes=True) == replace(IMAGENET, framing="whole", boxes=True)
    assert IMAGENET.framed("crop", boxes=True) == replace(IMAGENET, boxes=True)
    assert replace(IMAGENET, framing="whole", boxes=True).framed("pad", boxes=False) == padded


def test_json_and_back() -> None:
    assert InputSpec.from_json(IMAGENET.to_json(), "here") == IMAGENET


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (2, 8, 8)}, r"expected \[1 or 3, height, width\], got \[2, 8, 8\]"),
        ({"shape": ()}, "input shape"),
        ({"shape": (3, 8, 1 << 15)}, "input shape"),
        ({"mean": (0.5,)}, "expected 3 numbers each, got 1 and 3"),
        ({"mean": (0.5, 0.5, float("nan"))}, "finite"),
        ({"mean": (0.5, 0.5, 1e39)}, "finite float32"),
        ({"std": (1.0, 1.0, 0.0)}, "above 0"),
        ({"std": (1.0, 1.0, 1e-60)}, "above 0"),
        ({"resize": 0}, "resize"),
        ({"layout": "NHWC"}, "NCHW"),
        ({"framing": "zoom"}, "input framing: expected one of crop, whole, pad, got 'zoom'"),
        ({"fill": 256}, r"input fill: expected 0\.\.255, got 256"),
        ({"fill": -1}, r"input fill: expected 0\.\.255, got -1"),
    ],
)
def test_impossible_inputs_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArtefactError, match=words):
        replace(IMAGENET, **changes)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("framing", True, "input framing: expected a text, got True"),
        ("framing", "squash", "input framing: expected one of crop, whole, pad, got 'squash'"),
        ("fill", 0.5, r"input fill: expected a whole number, got 0\.5"),
        ("fill", True, "input fill: expected a whole number, got True"),
        ("boxes", 1, "input boxes: expected true or false, got 1"),
        ("exif_orientation", "yes", "input exif_orientation: expected true or false, got 'yes'"),
        ("colours", "BGR", "input colours: expected 'RGB', got 'BGR'"),
        ("scale", 1, "input scale: expected 255, got 1"),
        ("interpolation", "bicubic", "input interpolation: expected 'bilinear', got 'bicubic'"),
        ("interpolation", None, "input interpolation: expected a text, got None"),
        ("layout", "NHWC", "input layout: expected NCHW, got 'NHWC'"),
        ("resize", True, "malformed"),
    ],
)
def test_descriptions_that_nobody_could_follow_are_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(ArtefactError, match=f"pack.json: .*{words}"):
        InputSpec.from_json(IMAGENET.to_json() | {name: value}, "pack.json")


@pytest.mark.parametrize("value", [None, [], "NCHW", 3])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(ArtefactError, match="here: input description is malformed"):
        InputSpec.from_json(value, "here")
