"""`packnet eval`: the figure it prints, and what it refuses to measure."""

from __future__ import annotations

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
        assert "top-1 error 80.0 %, top-5 error 0.0 %" in result.out
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
        (("--task", "flowers", "--data", "flowers", "--pack", "no.pack"), 2, "no.pack"),
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
    told, _, figures = left_out.out.splitlines()
    assert told == f"flowers: left out, cannot be read: {flowers}/tulip/broken.png"
    assert "15 images" in figures
