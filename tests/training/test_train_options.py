"""Options and recipes: ranges, types, what wins over what, and one clear line for everything that is wrong."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from packnet_deploy.data import open_dataset
from packnet_deploy.errors import ArtefactError, EnvironmentFault, PackNetError, UsageError
from packnet_deploy.training.backbones import archs
from packnet_deploy.training.options import QUICKSTART_RECIPE, TrainOptions, read_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    """``recipe(text, **overrides)`` writes a recipe and reads it."""

    def read(text: str | bytes, **overrides: Any) -> list[TrainOptions]:
        path = tmp_path / "recipe.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_recipe(path, **overrides)

    return read


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        *(("prune_rate", bad, r"--prune-rate: expected 0\.\.1, got") for bad in (-0.01, 1.01, NAN)),
        *(("epochs", bad, "--epochs: expected 0 or more, got -1") for bad in (-1,)),
        ("retrain_epochs", -1, "--retrain-epochs: expected 0 or more, got -1"),
        ("batch_size", 0, "--batch-size: expected 1 or more, got 0"),
        *(("lr", bad, "--lr: expected ") for bad in (0, -1.0, NAN, float("inf"))),
        *(("momentum", bad, r"--momentum: expected 0\.\.1, got") for bad in (-0.1, 1.1, NAN)),
        *(("weight_decay", bad, "--weight-decay: expected ") for bad in (-1e-4, NAN, float("inf"))),
        *(("image_size", bad, r"--image-size: expected 8\.\.16384, got") for bad in (7, 1 << 15)),
        ("workers", -1, "--workers: expected 0 or more, got -1"),
        *(("seed", bad, r"--seed: expected 0\.\.") for bad in (-1, 1 << 63)),
        ("value_dtype", "int8", "--value-dtype: expected one of float32, float16, bfloat16, got 'int8'"),
        ("device", "tpu", "--device: expected one of auto, cpu, cuda, got 'tpu'"),
    ],
)
def test_a_value_out_of_range_names_flag_and_range(name: str, bad: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        TrainOptions(**{name: bad})
    assert "\n" not in str(caught.value)


def test_the_ends_of_the_ranges_are_in_them() -> None:
    TrainOptions(prune_rate=0, epochs=0, retrain_epochs=0, batch_size=1, momentum=0, image_size=8, workers=0, seed=0)
    TrainOptions(prune_rate=1, momentum=1, weight_decay=0, image_size=1 << 14, seed=(1 << 63) - 1)


def test_every_option_is_documented() -> None:
    for option in fields(TrainOptions):
        text = option.metadata["help"]
        assert text[0].isupper() or text.startswith("auto"), option.name
        assert text.rstrip("]").endswith(".") or "[default: " in text, option.name


def test_a_table_wins_over_the_top_and_overrides_win_over_both(recipe: Any) -> None:
    first, second = recipe(
        """
        arch = "vgg16"
        lr = 0.5
        pack = "some.pack"
        [[task]]
        name = "one"
        lr = 1
        [[task]]
        name = "two"
        epochs = 3
        """,
        epochs=9,
    )
    assert (first.task, first.arch, first.lr, first.epochs, first.pack) == ("one", "vgg16", 1, 9, Path("some.pack"))
    assert (second.task, second.arch, second.lr, second.epochs) == ("two", "vgg16", 0.5, 9)
    assert second.prune_rate == TrainOptions().prune_rate


@pytest.mark.parametrize("place", ["recipe", "override"])
def test_weights_are_for_the_first_task_only(recipe: Any, place: str) -> None:
    text = '[[task]]\nname = "a"\n[[task]]\nname = "b"\n'
    text, overrides = ('weights = "w.pth"\n' + text, {}) if place == "recipe" else (text, {"weights": "w.pth"})
    assert [task.weights for task in recipe(text, **overrides)] == ["w.pth", None]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("lr = ", ArtefactError, "not a recipe, TOML says: "),
        (b"\xff\xfe[[task]]", ArtefactError, "not a recipe, TOML says: "),
        ("", UsageError, r"expected one \[\[task\]\] table for each task, got none"),
        ("task = 3", UsageError, r"expected one \[\[task\]\] table"),
        ("task = [1]", UsageError, r"expected one \[\[task\]\] table"),
        ("[task]\nname = 'a'", UsageError, r"expected one \[\[task\]\] table"),
        ("learning_rate = 1\n[[task]]\nname='a'", UsageError, "unknown key 'learning_rate'; known: task, data"),
        ("[[task]]\nname='a'\nepoch = 1", UsageError, r"\[\[task\]\] 1: unknown key 'epoch'"),
        ("[[task]]\nname='a'\n[[task]]\nname='b'\nlr='x'", UsageError, r"\[\[task\]\] 2: lr: expected float, got 'x'"),
        ("[[task]]\nname='a'\nepochs=1.5", UsageError, r"epochs: expected int, got 1\.5"),
        ("[[task]]\nname='a'\nepochs=true", UsageError, "epochs: expected int, got True"),
        ("[[task]]\nname=3", UsageError, "task: expected str, got 3"),
        ("[[task]]\nlr=0.1", UsageError, r"\[\[task\]\] 1: it has no name"),
        ("[[task]]\nname='a'\nprune_rate=1.5", UsageError, r"--prune-rate: expected 0\.\.1, got 1\.5"),
        ("[[task]]\nname='a'\nprune_rate=nan", UsageError, r"--prune-rate: expected 0\.\.1, got nan"),
        ("[[task]]\nname='a/b'", UsageError, r"name: expected one of its own, 1 to 64 letters.* got 'a/b'"),
        ("[[task]]\nname='a'\n[[task]]\nname='a'", UsageError, r"\[\[task\]\] 2: name: expected one of its own"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(recipe: Any, text: Any, error: type[PackNetError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        recipe(text)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(EnvironmentFault, match="the recipe cannot be read"):
            read_recipe(path)


def test_the_quickstart_recipe_says_what_it_needs_to() -> None:
    tasks = read_recipe(QUICKSTART_RECIPE)
    assert len({task.task for task in tasks}) == len(tasks) == 3
    assert {task.data for task in tasks} == {"builtin:letters", "builtin:digits", "builtin:textures"}
    assert {task.pack for task in tasks} == {Path("quickstart.pack")}
    for task in tasks:
        assert task.arch in archs()
        assert 0 < task.prune_rate < 1
        assert task.data is not None
    assert open_dataset("builtin:digits").classes == tuple("0123456789")
