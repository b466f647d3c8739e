"""A task that pruning broke says so: when the rule speaks, and in table, report and pack of one that did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_training import Silent, make_training_small, recipe

from packnet_deploy.cli import show
from packnet_deploy.cli.train import train_all
from packnet_deploy.pack import Pack
from packnet_deploy.training.report import collapse, collapse_warning, warnings_of
from packnet_deploy.training.run import train_tasks

Coloured = Callable[..., Path]
LEARNS = {"epochs": 8, "retrain_epochs": 1, "schedule": "step", "protocol": "paper", "lr": 0.1, "milestones": ()}


@pytest.mark.parametrize(
    ("before", "after", "images", "collapsed"),
    [
        (0.26, 0.97, 300, True),
        (0.26, 0.35, 100_000, False),  # not far
        (0.26, 0.37, 100_000, True),
        (0.25, 0.375, 8, False),  # one image of eight
        (0.25, 0.375, 300, True),
        (0.0, 1.0, 4, True),
        (0.97, 0.26, 300, False),
    ],
)
def test_far_above_is_a_tenth_and_two_standard_errors(
    before: float, after: float, images: int, collapsed: bool
) -> None:
    assert collapse(before, after, images) == collapsed


def test_the_line_says_what_happened_and_what_to_do() -> None:
    said = {
        first: collapse_warning(0.26, 0.97, 300, split="validation", done="pruning by 0.75", first=first)
        for first in (True, False)
    }
    expected = (
        "it collapsed: 26.0 % error on 300 validation images became 97.0 % by pruning by 0.75; try a lower "
        "--prune-rate, --max-drop to have it chosen, more --retrain-epochs, or more --prune-steps"
    )
    assert said[False] == expected
    assert said[True] == expected + "; or begin with the pretrained network (--start network)"
    assert collapse_warning(0.26, 0.27, 300, split="validation", done="", first=True) is None


@pytest.mark.parametrize("kept", [None, "text", 3, [3], ["two\nlines"], ["\x1b[2J"]])
def test_a_report_of_others_making_warns_of_nothing(kept: object) -> None:
    assert warnings_of({"warnings": kept}) == ()
    assert warnings_of({"warnings": ["a line"]}) == ("a line",)


@pytest.fixture
def colours(coloured: Coloured, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_training_small(monkeypatch.setattr)
    return coloured("a", classes=3, train=12, val=24, test=24)


def test_a_training_that_collapses_is_not_silent(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.pack"
    train_all(recipe(colours, pack=path, prune_rate=0.99, **LEARNS), show.console())
    (line,) = warnings_of(Pack.open(path).header("a").report)
    assert line.startswith("it collapsed: "), line
    assert "on 72 validation images" in line
    assert "by pruning by 0.99 and 1 epochs of retraining" in line
    shown = capsys.readouterr().out
    assert "\n a ! " in shown or "\na ! " in shown, shown
    assert f"! a: {line}\n" in shown


def test_one_that_does_not_collapse_is(colours: Path, tmp_path: Path) -> None:
    unpruned = LEARNS | {"prune_rate": 0.0, "retrain_epochs": 0}
    (result,) = train_tasks(recipe(colours, **unpruned), tmp_path / "p.pack", Silent())
    assert result.warnings == ()
    assert "warnings" not in result.pack.header("a").report


def test_without_validation_images_the_test_images_warn(coloured: Coloured, tmp_path: Path, colours: Path) -> None:
    data = coloured("b", classes=3, train=12, test=24)
    tasks = recipe(data, prune_rate=0.99, val_fraction=0.0, **LEARNS)
    (result,) = train_tasks(tasks, tmp_path / "p.pack", Silent())
    assert "on 72 test images" in result.warnings[0]
