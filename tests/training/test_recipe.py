"""Recipes: types, what wins over what, one clear line for everything that is wrong, and options as JSON and back."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from packnet_deploy.data import open_dataset
from packnet_deploy.errors import ArtefactError, EnvironmentFault, PackNetError, UsageError
from packnet_deploy.training.backbones import archs
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import QUICKSTART_RECIPE, from_json, read_recipe, to_json


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    """``recipe(text, **overrides)`` writes a recipe and reads it."""

    def read(text: str | bytes, **overrides: Any) -> list[TrainOptions]:
        path = tmp_path / "recipe.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_recipe(path, **overrides)

    return read


def test_a_table_wins_over_the_top_and_overrides_win_over_both(recipe: Any) -> None:
    first, second = recipe(
        """
        arch = "vgg16"
        lr = 0.5
        pack = "some.pack"
        separate = ["norm"]
        [[task]]
        name = "one"
        lr = 1
        milestones = [2, 5]
        [[task]]
        name = "two"
        epochs = 3
        channels_last = false
        """,
        epochs=9,
    )
    assert (first.task, first.arch, first.lr, first.epochs, first.pack) == ("one", "vgg16", 1, 9, Path("some.pack"))
    assert (second.task, second.arch, second.lr, second.epochs) == ("two", "vgg16", 0.5, 9)
    assert (first.separate, second.separate, first.milestones, second.milestones) == (
        ("norm",),
        ("norm",),
        (2, 5),
        None,
    )
    assert (first.channels_last, second.channels_last) == (True, False)
    assert second.prune_rate == TrainOptions().prune_rate


@pytest.mark.parametrize("place", ["recipe", "override"])
@pytest.mark.parametrize(("key", "value"), [("weights", "w.pth"), ("pattern", "2:4")])
def test_what_makes_the_pack_is_for_the_first_task_only(recipe: Any, place: str, key: str, value: str) -> None:
    text = '[[task]]\nname = "a"\n[[task]]\nname = "b"\n[[task]]\nname = "c"\n'
    text, overrides = (f'{key} = "{value}"\n' + text, {}) if place == "recipe" else (text, {key: value})
    assert [getattr(task, key) for task in recipe(text, **overrides)] == [value, None, None]


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
        ("[[task]]\nname='a'\nchannels_last=1", UsageError, "channels_last: expected bool, got 1"),
        ("[[task]]\nname='a'\nmilestones=5", UsageError, "milestones: expected a list of int, got 5"),
        ("[[task]]\nname='a'\nmilestones=[1.5]", UsageError, r"milestones: expected a list of int, got \[1\.5\]"),
        ("[[task]]\nname='a'\nlr=[0.1]", UsageError, r"lr: expected float, got \[0\.1\]"),
        ("[[task]]\nname='a'\nseparate='norm'", UsageError, "separate: expected a list of str, got 'norm'"),
        ("[[task]]\nname=3", UsageError, "task: expected str, got 3"),
        ("[[task]]\nlr=0.1", UsageError, r"\[\[task\]\] 1: it has no name"),
        ("[[task]]\nname='a'\nprune_rate=1.5", UsageError, r"\[\[task\]\] 1: --prune-rate: expected 0\.\.1, got 1\.5"),
        ("[[task]]\nname='a'\nprune_rate=nan", UsageError, r"--prune-rate: expected 0\.\.1, got nan"),
        ("[[task]]\nname='a/b'", UsageError, r"name: expected one of its own, 1 to 64 letters.* got 'a/b'"),
        ("[[task]]\nname='a'\n[[task]]\nname='a'", UsageError, r"\[\[task\]\] 2: name: expected one of its own"),
        ("[[task]]\nname='a'\n[[task]]\nname='b'\nmethod='lwf'", UsageError, "method: expected one for all tasks"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(recipe: Any, text: Any, error: type[PackNetError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        recipe(text)
    assert type(caught.value) is error
    assert "recipe.toml: " in str(caught.value)
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


# -- as JSON -------------------------------------------------------------------------------------------------------

# Every field off its default, so that a field left out of the round trip shows.
OTHER = TrainOptions(
    task="birds", data="cub200:x", pack=Path("p.pack"), method="lwf", arch="vgg16", weights="w.pth", start="task",
    reference="imagenet:y", init="zero", image_size=64, framing="pad",
    augment=("flip", "erasing"), val_fraction=0.2, pattern="2:4", layers="fc",
    separate=("norm", "biases"), protocol="paper", freeze_epochs=1, lr_head=0.1, schedule="step", warmup=2.0,
    retrain_lr_factor=0.3, clip_grad=0.5, label_smoothing=0.2,
    prune_rate=0.1, layer_rates=("a=0.5",), score="taylor",
    prune_steps=2, epochs=7, lr=0.3, milestones=(2, 4), retrain_epochs=5, retrain_lr=0.01, retrain_milestones=(3,),
    batch_size=8, optimizer="adamw", momentum=0.5, weight_decay=0.01, amp="bf16", channels_last=False,
    value_dtype="float16", seed=3, device="cpu", workers=2, skip_bad_images=True,
)  # fmt: skip


# And those that exclude one another.
SEARCHED = TrainOptions(max_drop=0.02, tasks_to_come=2)
LAST = TrainOptions(last=True)


@pytest.mark.parametrize(
    "options", [TrainOptions(), OTHER, SEARCHED, LAST], ids=["defaults", "nothing at its default", "searched", "last"]
)
def test_options_come_back_from_json(options: TrainOptions) -> None:
    assert from_json(json.loads(json.dumps(to_json(options))), "f") == options


def test_no_field_of_the_other_options_is_at_its_default() -> None:
    default, others = TrainOptions(), (OTHER, SEARCHED, LAST)
    same = [
        f.name for f in fields(default) if all(getattr(other, f.name) == getattr(default, f.name) for other in others)
    ]
    assert same == []


@pytest.mark.parametrize("milestones", [None, ()])
def test_no_milestones_and_the_default_ones_stay_apart(milestones: tuple[int, ...] | None) -> None:
    """``None`` asks for the default; an empty list for none at all."""
    options = replace(TrainOptions(), milestones=milestones)
    assert from_json(json.loads(json.dumps(to_json(options))), "f").milestones == milestones


def test_foreign_json_is_refused() -> None:
    with pytest.raises(UsageError, match="f: unknown key 'colour'"):
        from_json({"colour": "red"}, "f")
    with pytest.raises(UsageError, match="f: epochs: expected int, got '3'"):
        from_json({"epochs": "3"}, "f")
