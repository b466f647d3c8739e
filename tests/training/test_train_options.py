"""Options: ranges, choices, defaults, and one clear line for everything that is wrong."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from packnet_deploy.errors import UsageError
from packnet_deploy.training.options import CHOICES, METHODS, TrainOptions, flag, layer_rate

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        *(("prune_rate", bad, r"--prune-rate: expected 0\.\.1, got") for bad in (-0.01, 1.01, NAN)),
        ("prune_steps", 0, "--prune-steps: expected 1 or more, got 0"),
        ("epochs", -1, "--epochs: expected 0 or more, got -1"),
        ("retrain_epochs", -1, "--retrain-epochs: expected 0 or more, got -1"),
        ("batch_size", 0, "--batch-size: expected 1 or more, got 0"),
        *(("lr", bad, "--lr: expected ") for bad in (0, -1.0, NAN, INF)),
        *(("retrain_lr", bad, "--retrain-lr: expected ") for bad in (0, -1.0, NAN, INF)),
        *(("momentum", bad, r"--momentum: expected 0\.\.1, got") for bad in (-0.1, 1.1, NAN)),
        *(("weight_decay", bad, "--weight-decay: expected ") for bad in (-1e-4, NAN, INF)),
        *(("image_size", bad, r"--image-size: expected 8\.\.16384, got") for bad in (7, 1 << 15)),
        ("workers", -1, "--workers: expected 0 or more, got -1"),
        *(("seed", bad, r"--seed: expected 0\.\.") for bad in (-1, 1 << 63)),
        *(("milestones", (bad,), f"--milestone: expected above 0 and below 20 epochs, got {bad}") for bad in (0, 20)),
        ("retrain_milestones", (3, 10), "--retrain-milestone: expected above 0 and below 10 epochs, got 10"),
    ],
)
def test_a_value_out_of_range_names_flag_and_range(name: str, bad: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        TrainOptions(**{name: bad})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_there_is_not_lists_those_that_there_are(name: str) -> None:
    several = isinstance(getattr(TrainOptions(), name), tuple)
    for known in CHOICES[name]:
        TrainOptions(**{name: (known,) if several else known})
    with pytest.raises(
        UsageError, match=f"^{flag(name)}: expected one of {', '.join(CHOICES[name])}, got 'none such'$"
    ):
        TrainOptions(**{name: (CHOICES[name][0], "none such") if several else "none such"})


def test_the_ends_of_the_ranges_are_in_them() -> None:
    TrainOptions(prune_rate=0, epochs=0, retrain_epochs=0, batch_size=1, momentum=0, image_size=8, workers=0, seed=0)
    TrainOptions(prune_rate=1, momentum=1, weight_decay=0, image_size=1 << 14, seed=(1 << 63) - 1)
    TrainOptions(epochs=3, milestones=(1, 2), retrain_epochs=2, retrain_milestones=(1,), prune_steps=2)
    TrainOptions(retrain_epochs=0, prune_steps=1)


@pytest.mark.parametrize(
    ("changes", "rate", "least"),
    [
        ({}, 0.75, 0),
        ({"max_drop": 0.01}, 0.95, 0),
        ({"max_drop": 0.01, "prune_rate": 0.8}, 0.8, 0),
        ({"tasks_to_come": 3}, 0.75, 0.75),
        ({"tasks_to_come": 1}, 0.5, 0.5),
        ({"tasks_to_come": 1, "prune_rate": 0.5}, 0.5, 0.5),
        ({"tasks_to_come": 1, "max_drop": 0.01}, 0.95, 0.5),
        ({"tasks_to_come": 49, "max_drop": 0.01}, 0.98, 0.98),
        ({"last": True}, 0, 0),
    ],
)
def test_how_much_is_pruned(changes: dict[str, Any], rate: float, least: float) -> None:
    options = TrainOptions(**changes)
    assert (options.prune_rate, options.least_rate) == (rate, least)
    assert TrainOptions(**{f.name: getattr(options, f.name) for f in fields(options)}) == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last": True, "prune_rate": 0.5}, "--last: nothing is pruned then; leave out --prune-rate$"),
        ({"last": True, "max_drop": 0.01, "prune_rate": 0}, "leave out --max-drop$"),
        ({"last": True, "tasks_to_come": 2, "layer_rates": ("a=0.5",)}, "leave out --tasks-to-come, --layer-rate$"),
        (
            {"tasks_to_come": 3, "prune_rate": 0.5},
            r"--tasks-to-come 3: the rate is 0\.75 then, got --prune-rate 0\.5",
        ),
        (
            {"tasks_to_come": 3, "prune_rate": 0.5, "max_drop": 0.01},
            r"--tasks-to-come 3: expected a --prune-rate of 0\.75 or more, got 0\.5",
        ),
        ({"max_drop": 0.01, "prune_steps": 2}, "--max-drop: it prunes in steps of its own; leave --prune-steps out"),
        ({"max_drop": 0.01, "retrain_epochs": 0}, "--max-drop: expected --retrain-epochs 1 or more, got 0"),
        ({"max_drop": 0.0}, "--max-drop: expected above 0, got 0"),
        ({"max_drop": NAN}, r"--max-drop: expected 0\.\.1, got nan"),
        ({"tasks_to_come": 0}, r"--tasks-to-come: expected 1\.\.254, got 0"),
    ],
)
def test_contradictions_about_how_much_is_pruned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainOptions(**changes)


def test_every_prune_step_has_an_epoch() -> None:
    with pytest.raises(UsageError, match=r"--prune-steps 6: expected an epoch .* --epochs 2 and --retrain-epochs 3"):
        TrainOptions(prune_steps=6, epochs=2, retrain_epochs=3)


@pytest.mark.parametrize(
    ("rule", "pattern", "rate"),
    [("features.*=0.5", "features.*", 0.5), ("a=b.weight=1", "a=b.weight", 1.0), ("*=0", "*", 0.0)],
)
def test_a_layers_rate(rule: str, pattern: str, rate: float) -> None:
    assert layer_rate(rule) == (pattern, rate)


@pytest.mark.parametrize("rule", ["features", "=0.5", "features=", "features=half", "a=1.5", "a=-0.1", "a=nan", ""])
def test_a_layers_rate_that_is_none(rule: str) -> None:
    with pytest.raises(UsageError, match=r"--layer-rate: expected PATTERN=RATE with a rate of 0\.\.1, got '"):
        TrainOptions(layer_rates=("*=0.5", rule))


def test_every_option_is_documented() -> None:
    for option in fields(TrainOptions):
        text = option.metadata["help"]
        assert text[0].isupper() or text.startswith(("auto", "sgd")), option.name
        repeated = isinstance(option.default, tuple) or "tuple" in str(option.type)  # flags.py puts the end to these
        assert repeated or text.rstrip("]").endswith(".") or "[default: " in text, option.name


def test_what_can_be_chosen_is_in_the_help() -> None:
    for name, known in CHOICES.items():
        (text,) = (option.metadata["help"] for option in fields(TrainOptions) if option.name == name)
        assert all(choice in text for choice in known), name
    assert CHOICES["method"] == METHODS
