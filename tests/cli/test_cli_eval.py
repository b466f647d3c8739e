"""`packnet eval`: the figure it prints, and what it refuses to measure."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_folders import image_folder

Packnet = Callable[..., Any]
FLOWERS = ("daffodil", "snowdrop", "crocus", "tulip", "perce-neige d'été")


@pytest.fixture
def flowers(here: Path) -> Path:
    """Class folders of the golden pack's flowers, each with the same three images in it."""
    source = image_folder(here / "source", classes=1, images=3) / "test/class0"
    for name in FLOWERS:
        shutil.copytree(source, here / "flowers" / name)
    shutil.rmtree(here / "source")
    return here / "flowers"


def test_the_same_images_in_every_class_are_right_once_in_five(packnet: Packnet, flowers: Path) -> None:
    """Whatever the network answers for an image, one of the five labels it carries is that answer."""
    for batch_size in (1, 4, 32):
        result = packnet("eval", "--task", "flowers", "--data", flowers, "--batch-size", batch_size)
        assert result.code == 0, result.err
        assert "accuracy 20.0 %, error 80.0 %  (" in result.out, "of five classes, top-5 would say nothing"
        assert "15 images" in result.out
        assert "5 classes" in result.out
    assert sorted(path.name for path in flowers.parent.iterdir()) == ["flowers", "golden.pack"], (
        "it writes nothing here"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--task", "flowers", "--data", "nowhere"), 3, "nowhere"),
        (("--task", "flowers", "--data", "builtin:nothing"), 2, "'digits', 'letters', 'textures'"),
        (("--task", "cars", "--data", "flowers"), 2, "its tasks: shapes, birds, flowers"),
        (("--task", "birds", "--data", "flowers"), 3, "Rotkehlchen"),
        (("--task", "flowers", "--data", "flowers", "--device", "tpu"), 2, "tpu"),
        (("--task", "flowers", "--data", "flowers", "--batch-size", 0), 2, "--batch-size"),
        (("--task", "flowers", "--data", "flowers", "--pack", "no.pack"), 3, "no.pack"),
        (("--task", "flowers"), 2, "--data"),
        (("--data", "flowers"), 2, "--task"),
    ],
)
def test_eval_refusals(packnet: Packnet, flowers: Path, arguments: tuple[Any, ...], code: int, says: str) -> None:
    result = packnet("eval", *arguments)
    assert result.code == code, result.err
    assert result.err.count("\n") == 1
    assert says in result.err


def test_images_without_boxes_are_not_what_the_task_was_trained_on(packnet: Packnet, flowers: Path) -> None:
    result = packnet("eval", "--task", "flowers", "--data", flowers)
    note = "flowers: trained on images cut to bounding boxes, which these do not have: they are seen whole"
    assert result.out.splitlines()[0] == note


def test_an_image_that_is_none_is_named(packnet: Packnet, flowers: Path) -> None:
    (flowers / "tulip/broken.png").write_bytes(b"not a picture")
    result = packnet("eval", "--task", "flowers", "--data", flowers)
    assert result.code in (3, 4)
    assert result.err.count("\n") == 1
    assert "broken.png" in result.err
    left_out = packnet("eval", "--task", "flowers", "--data", flowers, "--skip-bad-images")
    assert left_out.code == 0
    lines = left_out.out.splitlines()
    assert lines[0] == f"flowers: left out, cannot be read: {flowers}/tulip/broken.png"
    assert "15 images" in lines[-2]


def test_classes_without_images_are_said(packnet: Packnet, flowers: Path) -> None:
    for name in FLOWERS[1:4]:
        shutil.rmtree(flowers / name)
    result = packnet("eval", "--task", "flowers", "--data", flowers)
    assert result.code == 0
    assert "no images of 3 of its 5 classes: 'snowdrop', 'crocus', 'tulip'; the figures are the others'" in result.out


def test_the_part_that_was_taken_and_files_passed_over_are_said(packnet: Packnet, flowers: Path) -> None:
    (flowers / "tulip/raw.heic").write_bytes(b"")
    (flowers.parent / "set").mkdir()
    flowers.rename(flowers.parent / "set/Valid")
    result = packnet("eval", "--task", "flowers", "--data", "set")
    assert "flowers: set/Valid was taken for test/\n" in result.out
    assert "flowers: set/Valid: 1 file left out, of no suffix read here (1 .heic)\n" in result.out


def test_what_eval_writes(packnet: Packnet, flowers: Path) -> None:
    result = packnet(
        *("eval", "--task", "flowers", "--data", flowers, "--json"),
        *("--predictions", "answers.csv", "--confusion", "confusion.csv"),
    )
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["images"], found["error"], found["top5_error"]) == (15, pytest.approx(0.8), None)
    answers = list(csv.DictReader((flowers.parent / "answers.csv").open(encoding="utf-8")))
    assert [row["class"] for row in answers] == sorted(FLOWERS * 3, key=sorted(FLOWERS).index)
    assert len({row["predicted"] for row in answers}) <= 3, "three images, each in every class"
    table = list(csv.reader((flowers.parent / "confusion.csv").open(encoding="utf-8")))
    assert table[0] == ["class", *FLOWERS]
    assert [[int(count) for count in row[1:]] for row in table[1:]] == found["confusion"]
    counted = [[0] * 5 for _ in FLOWERS]
    for row in answers:
        counted[FLOWERS.index(row["class"])][FLOWERS.index(row["predicted"])] += 1
    assert counted == found["confusion"]


def test_the_confusion_matrix_as_a_picture(packnet: Packnet, flowers: Path) -> None:
    result = packnet("eval", "--task", "flowers", "--data", flowers, "--confusion", "confusion.svg")
    assert result.code == 0, result.err
    picture = (flowers.parent / "confusion.svg").read_text(encoding="utf-8")
    assert all(name in picture for name in ("daffodil", "tulip", "flowers: 15 images"))


def test_where_eval_writes_is_looked_at_first(packnet: Packnet, flowers: Path) -> None:
    arguments = ("eval", "--task", "flowers", "--data", "nowhere")
    assert "ends in .csv or .svg" in packnet(*arguments, "--confusion", "confusion.jpg").err
    result = packnet(*arguments, "--predictions", "far/answers.csv")
    assert (result.code, "far: expected a folder to write answers.csv to" in result.err) == (3, True)


def test_exports_are_measured_as_the_pack_is(packnet: Packnet, flowers: Path) -> None:
    assert packnet("export", "--task", "flowers").code == 0
    lines = [
        packnet("eval", "--task", "flowers", "--data", flowers, *more).out for more in ((), ("--onnx", "flowers.onnx"))
    ]
    assert lines[0].partition("\nnext: ")[0] == lines[1].partition("\nnext: ")[0]
