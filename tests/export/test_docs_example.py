"""docs/exports.md's lines from a photo to an input, run as printed: the pixels are those of ``packnet eval``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.data.preprocess import centre
from packnet_deploy.data.splits import FileSplit
from packnet_deploy.export.api import export_task
from packnet_deploy.pack import InputSpec, Pack
from packnet_deploy.predict.evaluation import evaluate
from packnet_deploy.predict.opening import load

DOCS = Path(__file__).parents[2] / "docs" / "exports.md"
SPEC = InputSpec((3, 33, 40), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 37)
SPECS = [
    SPEC,
    InputSpec((1, 20, 31), (0.5,), (0.25,), 24),
    replace(SPEC, exif_orientation=False),
    *(replace(SPEC, framing=framing, fill=fill) for framing in ("crop", "whole", "pad") for fill in (0, 99)),
]


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    section = DOCS.read_text(encoding="utf-8").partition("## From a photo to logits")[2]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:3]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Upright and lying, larger and smaller than the input, turned by EXIF, grey, of 16 bits, with a palette."""
    rng = np.random.default_rng(0)
    paths = []
    for number, (width, height) in enumerate([(70, 50), (41, 90), (10, 12), (300, 7)]):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        exif = image.getexif()
        exif[0x0112] = number + 5
        deep = Image.fromarray(rng.integers(0, 1 << 16, (height, width), np.uint16))
        for name, saved, options in (
            ("plain.png", image, {}),
            ("turned.jpg", image, {"exif": exif}),
            ("grey.png", image.convert("L"), {}),
            ("palette.gif", image.convert("P"), {}),
            ("alpha.png", image.convert("RGBA"), {}),
            ("deep.png", deep, {}),
        ):
            paths.append(tmp_path / f"{number}-{name}")
            saved.save(paths[-1], **options)
    return paths


def test_the_pixels_are_those_of_eval(blocks: list[str], photos: list[Path]) -> None:
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    split = FileSplit(np.zeros(len(photos), np.int64), tuple(map(str, photos)))
    for spec in SPECS:
        for index, path in enumerate(photos):
            got = names["network_input"](Image.open(path), spec.to_json())
            expected = spec.normalise(centre(split.image(index), spec)[None])
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(got, expected, err_msg=f"{path.name} {spec}")


def test_a_model_answers(
    blocks: list[str], photos: list[Path], tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    export_task(tiny_pack, "second", tmp_path / "flowers.onnx")
    photos[1].rename("photo.jpg")
    exec("\n".join(blocks[:2]), {})
    assert capsys.readouterr().out.strip() in tiny_pack.header("second").classes


def test_its_figure_is_that_of_eval(
    blocks: list[str], photos: list[Path], tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    export_task(tiny_pack, "second", tmp_path / "flowers.onnx")
    classes = tiny_pack.header("second").classes
    for number, path in enumerate(photos):
        folder = tmp_path / "photos" / classes[number % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("RGB").save(folder / f"{number}.jpg", exif=image.getexif())
    Path("photo.jpg").write_bytes(next(Path("photos").glob("*/*.jpg")).read_bytes())
    exec("\n".join(blocks), {})
    told = capsys.readouterr().out.splitlines()[-1]
    with load(tiny_pack.path) as predictor:
        found = evaluate(predictor, "second", "photos")
    assert told == f"error {found.error:.1%} of {len(photos)} images"
    assert 0 < found.error < 1
