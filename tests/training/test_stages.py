"""What follows what in a task's training: epochs, learning rates, prune steps and each layer's rate, as tables."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import ParamSpec
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.search import Search, Tried
from packnet_deploy.training.stages import Fit, Judge, Prune, Schedule, Stage, rates, stages


def outline(plan: tuple[Stage, ...]) -> list[Any]:
    """Prunings as their part, fits as (phase, begin, end), judging as its rate, or "end" at the end."""
    shown: list[Any] = []
    for stage in plan:
        if isinstance(stage, Fit):
            shown.append((stage.phase, stage.begin, stage.end))
        else:
            shown.append(
                pytest.approx(stage.part)
                if isinstance(stage, Prune)
                else "end"
                if stage.final
                else f"at {stage.rate:g}"
            )
    return shown


PAPER: dict[str, Any] = {"protocol": "paper"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs": 20, "retrain_epochs": 10}, [("train", 0, 20), 1, ("retrain", 0, 10)]),
        ({"epochs": 2, "retrain_epochs": 0}, [("train", 0, 2), 1]),
        ({"epochs": 0, "retrain_epochs": 3}, [1, ("retrain", 0, 3)]),
        ({"epochs": 0, "retrain_epochs": 0}, [1]),
        (
            {"epochs": 3, "retrain_epochs": 4, "prune_steps": 2},
            [("train", 0, 2), 7 / 8, ("train", 2, 3), 1, ("retrain", 0, 4)],
        ),
        (
            {"epochs": 1, "retrain_epochs": 4, "prune_steps": 4},
            [37 / 64, ("train", 0, 1), 7 / 8, ("retrain", 0, 1), 63 / 64, ("retrain", 1, 2), 1, ("retrain", 2, 4)],
        ),
        (
            {"epochs": 0, "retrain_epochs": 2, "prune_steps": 2},
            [7 / 8, ("retrain", 0, 1), 1, ("retrain", 1, 2)],
        ),
    ],
)
def test_what_follows_what(options: dict[str, int], expected: list[Any]) -> None:
    assert outline(stages(TrainOptions(**(PAPER | {"lr": 0.1} | options)), task=1)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"epochs": 4, "retrain_epochs": 3},
            [("train", 0, 2), 19 / 27, ("train", 2, 3), 26 / 27, ("train", 3, 4), 1, ("retrain", 4, 7)],
        ),
        ({"epochs": 1, "retrain_epochs": 3}, [("train", 0, 1), 1, ("retrain", 1, 4)]),
        ({"epochs": 0, "retrain_epochs": 3}, [1, ("retrain", 0, 3)]),
        ({"epochs": 4, "retrain_epochs": 3, "prune_steps": 1}, [("train", 0, 4), 1, ("retrain", 4, 7)]),
        ({"epochs": 4, "retrain_epochs": 3, "prune_rate": 0.0}, [("train", 0, 4), 1, ("retrain", 4, 7)]),
        (
            {"epochs": 2, "retrain_epochs": 3, "retrain_lr": 0.1, "prune_steps": 1},
            [("train", 0, 2), 1, ("retrain", 0, 3)],
        ),
    ],
)
def test_what_follows_what_by_default(options: dict[str, int], expected: list[Any]) -> None:
    """Pruned by and by before the last of --epochs, on one schedule."""
    assert outline(stages(TrainOptions(**options), task=2)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("protocol", ["paper", "tuned"])
def test_every_prune_step_has_an_epoch_and_every_epoch_is_trained_once(protocol: str, steps: int) -> None:
    for epochs, retrain in itertools.product(range(6), range(6)):
        if steps > max(epochs + retrain, 1):
            continue
        options = TrainOptions(protocol=protocol, epochs=epochs, retrain_epochs=retrain, prune_steps=steps)
        plan = stages(options, task=2)
        parts = [stage.part for stage in plan if isinstance(stage, Prune)]
        assert parts == sorted(set(parts))
        assert (len(parts), parts[-1]) == (steps, 1)
        assert not any(isinstance(one, Prune) and isinstance(two, Prune) for one, two in itertools.pairwise(plan))
        fits = [stage for stage in plan if isinstance(stage, Fit)]
        shown = [stage.shown_before + epoch for stage in fits for epoch in range(stage.begin, stage.end)]
        assert shown == list(range(epochs + retrain))
        phases = [stage.phase for stage in fits for _ in range(stage.begin, stage.end)]
        assert phases == ["train"] * epochs + ["retrain"] * retrain
        assert not fits or fits[-1].keeps_best
        if protocol == "tuned":
            assert sum(stage.keeps_best for stage in fits) <= 1, "only where the rate has fallen"


def learning_rates(options: TrainOptions, task: int) -> dict[str, list[float]]:
    """Of every epoch of each phase."""
    found: dict[str, list[float]] = {"train": [], "retrain": []}
    for stage in stages(options, task):
        if isinstance(stage, Fit):
            found[stage.phase] += [round(stage.schedule.lr_at(e), 12) for e in range(stage.begin, stage.end)]
    return found


@pytest.mark.parametrize(
    ("task", "changes", "train", "retrain"),
    [
        (1, {}, [1, 1, 0.1, 0.1], [1, 1, 0.1, 0.1]),
        (2, {}, [1, 1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]),
        (2, {"prune_steps": 4}, [1, 1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]),
        (1, {"prune_steps": 4}, [1, 1, 0.1, 0.1], [1, 1, 0.1, 0.1]),
        (2, {"retrain_lr": 0.5}, [1, 1, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5]),
        (2, {"retrain_milestones": (3,)}, [1, 1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.01]),
        (1, {"milestones": (1, 3)}, [1, 0.1, 0.1, 0.01], [1, 1, 0.1, 0.1]),
        (1, {"milestones": (), "retrain_milestones": ()}, [1, 1, 1, 1], [1, 1, 1, 1]),
        (1, {"epochs": 1, "retrain_epochs": 1}, [1], [1]),
        (1, {"epochs": 3, "retrain_epochs": 5}, [1, 0.1, 0.1], [1, 1, 0.1, 0.1, 0.1]),
    ],
)
def test_the_learning_rate_of_every_epoch(
    task: int, changes: dict[str, Any], train: list[float], retrain: list[float]
) -> None:
    options = TrainOptions(**({"protocol": "paper", "lr": 1.0, "epochs": 4, "retrain_epochs": 4} | changes))
    assert learning_rates(options, task) == {"train": pytest.approx(train), "retrain": pytest.approx(retrain)}


def test_the_papers_protocol() -> None:
    """Section 4: 20 epochs at 1e-3, a tenth after 10; retraining of an added task 10 epochs at 1e-4."""
    first, added = (learning_rates(TrainOptions(protocol="paper"), task) for task in (1, 2))
    assert first["train"] == added["train"] == pytest.approx([1e-3] * 10 + [1e-4] * 10)
    assert first["retrain"] == pytest.approx([1e-3] * 5 + [1e-4] * 5)
    assert added["retrain"] == pytest.approx([1e-4] * 10)


def test_every_fit_carries_the_optimiser_and_its_images_come_after_those_shown_before() -> None:
    options = TrainOptions(
        lr=0.1, epochs=3, retrain_epochs=4, prune_steps=2, optimizer="adamw", momentum=0.5, weight_decay=0.1, amp="bf16"
    )
    shown: list[int] = []
    for stage in stages(options, task=2):
        if isinstance(stage, Fit):
            s = stage.schedule
            assert (s.optimizer, s.momentum, s.weight_decay, s.amp) == ("adamw", 0.5, 0.1, "bf16")
            shown += [stage.shown_before + epoch for epoch in range(stage.begin, stage.end)]
    assert shown == list(range(7)), "no epoch sees the images as another did"


def test_cosine_falls_once_over_all_epochs_whenever_pruning_comes() -> None:
    schedule = Schedule(4, 0.2, kind="cosine")
    assert [schedule.lr_at(epoch) for epoch in (0, 2, 4, 5)] == pytest.approx([0.2, 0.1, 0, 0])
    for steps in (1, 3):
        found = learning_rates(TrainOptions(lr=1.0, warmup=0, epochs=2, retrain_epochs=2, prune_steps=steps), task=2)
        assert found["train"] == pytest.approx([1, 0.853553390593])
        assert found["retrain"] == pytest.approx([0.5, 0.146446609407])


def test_cosine_begins_anew_after_pruning_where_that_rate_is_given() -> None:
    options = TrainOptions(schedule="cosine", lr=1.0, warmup=0, epochs=4, retrain_epochs=4, retrain_lr_factor=0.5)
    found = learning_rates(options, task=2)
    assert found["train"] == pytest.approx([1, 0.853553390593, 0.5, 0.146446609407])
    assert found["retrain"] == pytest.approx([0.5, 0.426776695297, 0.25, 0.073223304703])


def test_the_rate_rises_first_but_not_after_pruning() -> None:
    schedule = Schedule(4, 0.2, warmup=2)
    assert [schedule.lr_at(epoch) for epoch in (0, 0.5, 1, 2, 3)] == pytest.approx([0, 0.05, 0.1, 0.2, 0.2])
    options = TrainOptions(lr=0.1, epochs=9, warmup=1, retrain_epochs=3, retrain_lr=0.1, prune_steps=1)
    first, _, second = stages(options, task=2)
    assert isinstance(first, Fit)
    assert isinstance(second, Fit)
    assert (first.schedule.warmup, second.schedule.warmup) == (1, 0)


def test_the_head_may_come_first_and_have_a_rate_of_its_own() -> None:
    options = TrainOptions(
        freeze_epochs=2, epochs=3, retrain_epochs=1, lr=0.1, lr_head=0.4, retrain_lr_factor=0.5, prune_steps=1
    )
    head, train, _, retrain = stages(options, task=2)
    assert isinstance(head, Fit)
    assert isinstance(train, Fit)
    assert isinstance(retrain, Fit)
    assert [(fit.phase, fit.head_alone, fit.shown_before) for fit in (head, train, retrain)] == [
        ("head", True, 0),
        ("train", False, 2),
        ("retrain", False, 5),
    ]
    assert [(fit.schedule.lr, fit.schedule.lr_head) for fit in (head, train, retrain)] == [
        (0.4, pytest.approx(1.6)),
        (0.1, pytest.approx(0.4)),
        (0.05, pytest.approx(0.2)),
    ]


def test_a_schedule_without_milestones_stays_where_it_is() -> None:
    assert [Schedule(3, 0.2).lr_at(epoch) for epoch in range(3)] == [0.2, 0.2, 0.2]


# -- a rate that is looked for, and a last task ---------------------------------------------------------------------


def searched(options: TrainOptions, breaks: float) -> list[tuple[Stage, ...]]:
    """The plan after each try of a search in which rates above ``breaks`` cost too much."""
    search, tried = Search(0.1, options.least_rate, options.prune_rate), list[Tried]()
    plans = [stages(options, 2, search=search)]
    while not (isinstance(end := plans[-1][-1], Judge) and end.final):
        assert isinstance(end, Judge)
        tried.append(Tried(end.rate, float(end.rate > breaks), end.whole))
        plans.append(stages(options, 2, search=search, tried=tried))
    return plans


def test_each_try_prunes_retrains_and_is_judged_and_the_rate_found_gets_the_rest() -> None:
    options = TrainOptions(lr=0.1, epochs=3, retrain_epochs=8, max_drop=0.01, prune_rate=0.8)
    plans = searched(options, breaks=0.6)
    assert outline(plans[0]) == [("train", 0, 3), 0.5 / 0.8, ("try 0.5", 0, 2), "at 0.5"]
    assert outline(plans[-1]) == [
        *outline(plans[0]),
        *(0.6 / 0.8, ("try 0.6", 0, 2), "at 0.6"),
        *(0.7 / 0.8, ("try 0.7", 0, 2), "at 0.7", ("whole 0.7", 0, 8), "at 0.7"),
        *(0.65 / 0.8, ("try 0.65", 0, 2), "at 0.65", ("whole 0.65", 0, 8), "at 0.65"),
        *(("retrain", 0, 1), "end"),
    ]
    final = plans[-1][-1]
    assert isinstance(final, Judge)
    assert final.rate == 0.6


@pytest.mark.parametrize(
    ("task", "asked", "begins"),
    [
        (2, {}, 0.05),
        (2, {"schedule": "step"}, 0.01),
        (2, {"retrain_lr_factor": 0.3}, 0.03),
        (2, {"retrain_lr": 0.2}, 0.2),
        (1, {}, 0.1),
    ],
)
def test_a_try_begins_anew_at_a_lower_rate_for_an_added_task(task: int, asked: dict[str, Any], begins: float) -> None:
    options = TrainOptions(lr=0.1, epochs=3, retrain_epochs=8, max_drop=0.01, **asked)
    *_, tried, _ = stages(options, task, search=Search(0.1, 0.0, 0.95))
    assert isinstance(tried, Fit)
    assert tried.schedule.lr_at(0) == pytest.approx(begins)


@pytest.mark.parametrize("breaks", [1.0, 0.86, 0.55, 0.2, 0.0])
@pytest.mark.parametrize("epochs", [1, 3, 4, 7, 10, 20])
def test_a_search_only_grows_shows_no_epoch_twice_and_keeps_to_its_epochs(epochs: int, breaks: float) -> None:
    plans = searched(TrainOptions(lr=0.1, epochs=2, retrain_epochs=epochs, max_drop=0.01), breaks)
    for shorter, longer in itertools.pairwise(plans):
        assert longer[: len(shorter)] == shorter, "a checkpoint's stage stays what it was"
    fits = [stage for stage in plans[-1] if isinstance(stage, Fit)]
    shown = [fit.shown_before + epoch for fit in fits for epoch in range(fit.begin, fit.end)]
    assert shown == list(range(len(shown)))
    assert len({fit.phase for fit in fits}) == len(fits), "each has rows of its own in the log"
    ended = sum(fit.phase.startswith("whole") for fit in fits)
    assert epochs < 4 or len(shown) - 2 <= max(2, 1.5 + ended) * epochs + 1


@pytest.mark.parametrize(
    ("patterned", "expected"), [(False, [("train", 0, 7), 1]), (True, [("train", 0, 4), 1, ("retrain", 4, 7)])]
)
def test_a_last_task_has_its_epochs_before_unless_the_pattern_prunes_it(patterned: bool, expected: list[Any]) -> None:
    options = TrainOptions(lr=0.1, epochs=4, retrain_epochs=3, last=True)
    assert outline(stages(options, 2, patterned=patterned)) == expected
    assert set(rates(options, 1, PACKABLE).values()) == {0}


# -- each layer's rate ---------------------------------------------------------------------------------------------

NAMES = ("features.0.weight", "features.3.weight", "classifier.1.weight")
PACKABLE = [ParamSpec(name, shape) for name, shape in zip(NAMES, ((8, 3, 3, 3), (8, 1, 3, 3), (4, 1)), strict=True)]


@pytest.mark.parametrize(
    ("rules", "part", "expected"),
    [
        ((), 1, (0.8, 0, 0.8)),
        ((), 0.5, (0.4, 0, 0.4)),
        (("depthwise=0.8",), 1, (0.8, 0.8, 0.8)),
        (("features.*=0.5",), 1, (0.5, 0.5, 0.8)),
        (("features.*=0.5", "features.3.*=0"), 1, (0.5, 0, 0.8)),
        (("features.3.*=0", "features.*=0.5"), 1, (0.5, 0.5, 0.8)),
        (("features.?.weight=0.6",), 0.5, (0.3, 0.3, 0.4)),
        (("*=0.2", "classifier.1.weight=1"), 1, (0.2, 0.2, 1)),
        (("depthwise=0",), 1, (0.8, 0, 0.8)),
        (("depthwise=0", "features.*=0.5"), 1, (0.5, 0.5, 0.8)),
    ],
)
def test_the_last_rule_that_matches_counts(rules: tuple[str, ...], part: float, expected: tuple[float, ...]) -> None:
    found = rates(TrainOptions(prune_rate=0.8, layer_rates=rules), part, PACKABLE)
    assert found == pytest.approx(dict(zip(NAMES, expected, strict=True)))


def test_a_network_need_not_have_depthwise_layers() -> None:
    assert rates(TrainOptions(layer_rates=("depthwise=0",)), 1, PACKABLE[:1]) == {NAMES[0]: 0.75}


@pytest.mark.parametrize("rule", ["Features.*=0.5", "features=0.5", "fc.weight=0"])
def test_a_rule_for_no_layer_at_all_names_some_that_there_are(rule: str) -> None:
    with pytest.raises(
        UsageError,
        match=rf"--layer-rate {rule}: matches no packable .* like features\.0\.weight, ".replace("*=", r"\*="),
    ):
        rates(TrainOptions(layer_rates=(rule,)), 1, PACKABLE)
