"""`packnet predict`: what it prints for one image and for many, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import packnet_deploy

Packnet = Callable[..., Any]


@pytest.fixture
def photos(here: Path) -> Path:
    """A folder with three photos, one of them in a folder of its own, and a file that is none."""
    rng = np.random.default_rng(7)
    (here / "photos/more").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "more/c.png"):
        Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8)).save(here / "photos" / name)
    (here / "photos/notes.txt").write_text("no photo")
    return here / "photos"


def best_of(here: Path, photo: str, task: str) -> str:
    with packnet_deploy.load(here / "golden.pack") as predictor:
        return predictor.predict(here / photo, task).name


def test_one_image_has_its_five_best(packnet: Packnet, here: Path, photos: Path) -> None:
    result = packnet("predict", "flowers", "photos/a.png")
    assert result.code == 0, result.err
    rows = [line.split("  ") for line in result.out.splitlines() if line.rstrip().endswith("%")]
    assert len(rows) == 5
    assert rows[0][0].strip() == best_of(here, "photos/a.png", "flowers")
    assert "photos/a.png" in result.out


def test_a_folder_and_every_task(packnet: Packnet, here: Path, photos: Path) -> None:
    result = packnet("predict", "--all", "photos", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)["answers"]
    assert [each["image"] for each in found] == ["photos/a.png", "photos/b.jpg", "photos/more/c.png"]
    for each in found:
        assert list(each["tasks"]) == ["shapes", "birds", "flowers"]
        assert all(len(guesses) == 1 for guesses in each["tasks"].values()), "of several images the best class each"
        for task, (guess,) in each["tasks"].items():
            assert guess["class"] == best_of(here, each["image"], task)


def test_csv(packnet: Packnet, photos: Path) -> None:
    result = packnet("predict", "flowers", "photos", "--csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [(row["image"], row["task"], row["rank"]) for row in rows[:3]] == [
        ("photos/a.png", "flowers", "1"),
        ("photos/a.png", "flowers", "2"),
        ("photos/b.jpg", "flowers", "1"),
    ]
    assert len(rows) == 6


def test_an_image_from_standard_input(packnet: Packnet, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_file = json.loads(packnet("predict", "birds", "photos/a.png", "--json").out)["answers"][0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((photos / "a.png").read_bytes())))
    of_input = json.loads(packnet("predict", "birds", "-", "--json").out)["answers"][0]
    assert of_input == of_file | {"image": "standard input"}


def test_an_image_that_cannot_be_read_is_named_and_the_others_answered(packnet: Packnet, photos: Path) -> None:
    (photos / "a.png").write_bytes(b"no image")
    for kind in ((), ("--csv",), ("--json",)):
        result = packnet("predict", "birds", "photos", *kind)
        assert result.code == 3
        assert result.err == (
            "packnet: photos/a.png: expected a readable image, got: its content is no image format known here\n"
        )
        assert "photos/b.jpg" in result.out
        assert "photos/more/c.png" in result.out


def test_an_export_answers_as_the_pack(packnet: Packnet, here: Path, photos: Path) -> None:
    assert packnet("export", "--all-tasks").code == 0
    for task, onnx in (("birds", "birds.onnx"), ("birds", "."), ("--all", ".")):
        ours, theirs = (packnet("predict", task, "photos", "--json", *more) for more in ((), ("--onnx", onnx)))
        assert theirs.code == 0, theirs.err
        for mine, its in zip(*(json.loads(said.out)["answers"] for said in (ours, theirs)), strict=True):
            assert {t: g[0]["class"] for t, g in mine["tasks"].items()} == {
                t: g[0]["class"] for t, g in its["tasks"].items()
            }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "expected TASK IMAGE..."),
        (("birds",), 2, "expected TASK IMAGE..."),
        (("--all",), 2, "expected IMAGE..."),
        (("cars", "photos"), 2, "its tasks: shapes, birds, flowers"),
        (("birds", "gone.jpg"), 3, "gone.jpg: expected an image or a folder of images"),
        (("birds", "empty"), 3, "empty: expected images in this folder"),
        (("birds", "photos", "--json", "--csv"), 2, "expected one of them, got both"),
        (("birds", "photos", "--top", "0"), 2, "--top"),
        (("birds", "photos", "--onnx", "gone.onnx"), 3, "gone.onnx"),
        (("birds", "photos", "--onnx", "a.onnx", "--pack", "golden.pack"), 2, "leave out --pack and --plan"),
        (("birds", "photos", "--plan", "gone.plan"), 3, "gone.plan"),
        (("birds", "photos", "--device", "tpu"), 2, "tpu"),
    ],
)
def test_refusals(packnet: Packnet, photos: Path, arguments: tuple[Any, ...], code: int, says: str) -> None:
    (photos.parent / "empty").mkdir()
    result = packnet("predict", *arguments)
    assert (result.code, result.out) == (code, ""), result.err
    assert says in result.err
    assert result.err.count("\n") == 1
