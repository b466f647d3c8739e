"""A task's own input description: training keeps it, evaluation follows it, whatever the task before it had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_training import NEW, QUICK, Silent, make_training_small

from packnet_deploy.data import open_dataset
from packnet_deploy.pack import InputSpec, Pack
from packnet_deploy.pack.inputs import FRAMINGS
from packnet_deploy.predict.evaluation import evaluate
from packnet_deploy.predict.opening import load
from packnet_deploy.training.loader import EvalLoader, train_loader
from packnet_deploy.training.options import CHOICES, TrainOptions
from packnet_deploy.training.run import train_tasks

SPEC = InputSpec((3, 16, 16), (0.5,) * 3, (0.25,) * 3, resize=16)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_small(monkeypatch.setattr)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Upright and lying photos of any size, as phones (EXIF) and thermal cameras (16 bits) write them."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 9)):
        for label, level in enumerate((60, 190)):
            folder = tmp_path / "photos" / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = rng.integers(12, 60, 2)
                values = np.clip(rng.normal(level, 60, (height, width, 3)), 0, 255)
                image = Image.fromarray(values.astype(np.uint8))
                if index % 3 == 0:
                    Image.fromarray((values[..., 0] * 257).astype(np.uint16)).save(folder / f"{index}.png")
                else:
                    exif = image.getexif()
                    exif[0x0112] = 1 + index % 8
                    image.save(folder / f"{index}.jpg", exif=exif)
    return tmp_path / "photos"


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """CUB's layout: bounding boxes, and colours around them that would mislead."""
    rng, root = np.random.default_rng(1), tmp_path / "CUB_200_2011"
    lines: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    }
    for label in (0, 1):
        (root / "images" / f"{label}.bird").mkdir(parents=True)
    for number in range(1, 25):
        label = number % 2
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        pixels[5:25, 10:20] = rng.normal((60, 190)[label], 20, (20, 10, 3)).clip(0, 255)
        Image.fromarray(pixels).save(root / "images" / f"{label}.bird" / f"{number}.png")
        lines["images"].append(f"{number} {label}.bird/{number}.png")
        lines["image_class_labels"].append(f"{number} {label + 1}")
        lines["train_test_split"].append(f"{number} {int(number <= 16)}")
        lines["bounding_boxes"].append(f"{number} 10.0 5.0 10.0 20.0")
    for name, rows in lines.items():
        (root / f"{name}.txt").write_text("\n".join(rows))
    (root / "classes.txt").write_text("1 0.bird\n2 1.bird\n")
    return root


def add(path: Path, task: str, data: str, **changes: str) -> Pack:
    new = {} if path.exists() else NEW
    (result,) = train_tasks([TrainOptions(task=task, data=data, **(QUICK | new | changes))], path, Silent())
    return result.pack


def test_flags_offer_the_framings_that_the_format_has() -> None:
    assert CHOICES["framing"] == FRAMINGS


def test_every_task_keeps_its_own_and_is_evaluated_by_it(tmp_path: Path, photos: Path, birds: Path) -> None:
    path, cub = tmp_path / "p.pack", f"cub200:{birds}"
    tasks = {
        "birds": (cub, {}, {"framing": "whole", "boxes": True}),
        "photos": (str(photos), {}, {"framing": "crop", "boxes": False}),
        "padded": (str(photos), {"framing": "pad"}, {"framing": "pad", "boxes": False}),
        "cut": (cub, {"framing": "crop"}, {"framing": "crop", "boxes": True}),
    }
    for name, (data, options, _) in tasks.items():
        pack = add(path, name, data, **options)
    assert pack.input.exif_orientation
    for name, (data, _, said) in tasks.items():
        described = pack.task_input(name)
        assert {key: getattr(described, key) for key in said} == said
        header = pack.header(name)
        assert (header.input is None) == (name == "photos"), "what is the pack's is not written again"
        errors = header.report["errors"]["retrained"]["test"]
        with load(pack.path) as predictor:
            found = evaluate(predictor, name, data)
        assert [found.error, 1 - found.within_top / found.images] == pytest.approx(errors, abs=1e-6)


def test_older_tasks_are_measured_again_as_they_were_trained(tmp_path: Path, photos: Path, birds: Path) -> None:
    tasks = [
        TrainOptions(task="birds", data=f"cub200:{birds}", **(QUICK | NEW)),
        TrainOptions(task="padded", data=str(photos), framing="pad", **QUICK),
        TrainOptions(task="photos", data=str(photos), **QUICK),
    ]
    for result in train_tasks(tasks, tmp_path / "p.pack", Silent()):
        pack = result.pack
    rows = [line.split(",") for line in (tmp_path / "p.train" / "results.csv").read_text().splitlines()]
    last = {row[1]: float(row[2]) for row in rows if row[0] == "photos"}
    assert last == {name: pack.header(name).report["errors"]["retrained"]["test"][0] for name in pack_names(pack)}


def pack_names(pack: Pack) -> list[str]:
    return [entry.name for entry in pack.tasks]


def test_a_photo_that_was_held_upright_trains_and_is_evaluated_upright(tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for part in ("train", "val", "test"):
        for label in ("a", "b"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            image = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))  # as the sensor lay
            exif = image.getexif()
            exif[0x0112] = 6
            image.save(folder / "photo.png", exif=exif)
    data = open_dataset(tmp_path)
    expected = SPEC.normalise(upright.transpose(2, 0, 1)[None])[0]
    mirrored = expected[:, :, ::-1]
    for images, _ in train_loader(data, SPEC, 2, seed=0):
        assert all(np.array_equal(image, expected) or np.array_equal(image, mirrored) for image in images.numpy())
    for images, _ in EvalLoader(data.test, SPEC, 2):
        np.testing.assert_array_equal(images.numpy(), np.stack([expected, expected]))
