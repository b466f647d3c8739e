"""Recipes: what they say, what is refused, and that every shipped one is a valid design at all its scales."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import RECIPE

from packnet_deploy.errors import UsageError
from packnet_deploy.experiments.design import Design, Trial, design_of
from packnet_deploy.experiments.recipe import read_experiment, recipe_path, shipped_recipes
from packnet_deploy.training.methods import method_of
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.recipe import tasks_from
from packnet_deploy.training.stages import Prune, stages

Designed = Callable[..., Design]
NAMES = ("fig2-lwf-drift", "fig3-order", "fig4-ratio", "fig5-layers", "table2", "table3", "table4", "table5", "table6")


def test_columns_orders_and_seeds_give_the_trials(designed: Designed) -> None:
    trials = [(t.column, t.order, t.seed) for t in designed().trials]
    both = [("birds", "cars"), ("cars", "birds")]
    assert trials == [
        *(("packnet-75", order, seed) for order in both for seed in (0, 1)),
        *(("lwf", order, seed) for order in both for seed in (0, 1)),
        *(("individual", ("birds", "cars"), seed) for seed in (0, 1)),
    ]


def test_each_adds_every_task_alone(designed: Designed) -> None:
    design = designed(RECIPE.replace('orders = "all"', 'orders = "each"'))
    assert {t.order for t in design.trials if t.column == "lwf"} == {("birds",), ("cars",)}


def test_a_column_wins_over_the_task_and_its_scale_over_the_column(designed: Designed) -> None:
    text = RECIPE.replace('label = "PackNet"', "lr = 0.5\nepochs = 7\nfirst = { lr = 0.25, prune_rate = 0.5 }")
    text += "lr = 0.125\n[scale.small.column.packnet-75]\nepochs = 8\nfirst = { prune_rate = 0.6 }\n"
    first, second, third = designed(text).trials[0].run.tasks
    assert (first["lr"], first["epochs"], first["prune_rate"]) == (0.25, 8, 0.6)
    assert (second["lr"], second["epochs"], third["lr"]) == (0.5, 8, 0.5)
    assert "prune_rate" not in second


def test_what_a_column_says_of_added_tasks_leaves_the_first_alone(designed: Designed) -> None:
    text = RECIPE.replace('label = "PackNet"', "added = { epochs = 3, prune_rate = 0.0 }")
    text += "[scale.small.column.packnet-75.added]\nepochs = 4\n"
    first, *added = designed(text).trials[0].run.tasks
    assert first == designed().trials[0].run.tasks[0]
    assert [(task["epochs"], task["prune_rate"]) for task in added] == [(4, 0.0)] * 2


def test_seeds_by_order_give_every_order_one_of_its_own(designed: Designed) -> None:
    design = designed(RECIPE.replace("seeds = [0, 1]", 'seeds = "by order"'))
    packed = [(t.order, t.seed, t.run.tasks[0]["seed"]) for t in design.trials if t.column == "packnet-75"]
    assert packed == [(("birds", "cars"), 0, 0), (("cars", "birds"), 1, 0)], "the first task is one for all"
    alone = [(t.order, t.seed, t.run.tasks[0]["seed"]) for t in design.trials if t.column == "lwf"]
    assert alone == [(("birds", "cars"), 0, 0), (("cars", "birds"), 1, 1)]


def test_a_first_task_alone_is_a_trial_of_its_own(designed: Designed) -> None:
    design = designed(RECIPE.replace('label = "PackNet"', 'label = "PackNet"\norders = "none"'))
    alone = [t for t in design.trials if t.column == "packnet-75"]
    assert [(t.order, t.seed, len(t.run.tasks), t.run.base) for t in alone] == [((), s, 1, None) for s in (0, 1)]
    assert [t.first for t in alone] == [t.run.name for t in alone]


NETWORK_FIRST = RECIPE.replace("task.imagenet", "task.pretrained").replace('["imagenet"', '["pretrained"')
NETWORK_FIRST = NETWORK_FIRST.replace('data = "builtin:letters"', 'start = "network"')


def test_a_pretrained_network_first_is_left_to_training(designed: Designed) -> None:
    """What it is, how much of it is freed and how, are the program's own defaults: they are not in the recipe."""
    for trial in designed(NETWORK_FIRST).trials:
        assert [task["name"] for task in trial.run.tasks] == list(trial.order)
        assert "-".join(trial.order) in trial.run.name
        assert [task.get("start") for task in trial.run.tasks] == ["network", None]
        assert trial.run.base is None
        tasks = tasks_from({"task": [dict(task) for task in trial.run.tasks]}, "")
        assert all(task.prune_rate == TrainOptions().prune_rate for task in tasks)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pretrained", "network", r"task.network: start: expected the first task to be called pretrained where it is"),
        (
            'start = "network"',
            'start = "network"\nprune_rate = 0.5',
            r"task.pretrained: prune_rate: .* leaves to packnet",
        ),
        ('orders = "all"', 'orders = "none"', r"column.packnet-75: orders: .* no task but pretrained"),
        ('label = "PackNet"', "first = { prune_rate = 0.5 }", r"column.packnet-75.first: .* leaves to packnet train"),
    ],
)
def test_a_network_first_has_nothing_of_its_own_to_say(designed: Designed, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        designed(NETWORK_FIRST.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", "comparison.toml: unknown key 'titel'; known: title, about"),
        ('title = "A comparison"', "", "comparison.toml: title is missing"),
        ('label = "LwF"', "label = 3", "comparison.toml: column.lwf: label: expected a text, got 3"),
        ('label = "LwF"', "rate = 3", "comparison.toml: column.lwf: unknown key 'rate'"),
        ('label = "LwF"', "first = { rate = 3 }", "comparison.toml: column.lwf.first: unknown key 'rate'"),
        ('label = "LwF"', "lr = -1.0", r"comparison.toml: column.lwf, birds then cars: \[\[task\]\] 1: --lr: expected"),
        ('label = "LwF"', 'lr = "high"', r"column.lwf, birds then cars: \[\[task\]\] 1: lr: expected float"),
        ('"lwf"', '"lfw"', r"column.lwf, birds then cars: \[\[task\]\] 1: --method: expected one of"),
        ('"drift"', '"drfit"', "views: expected some of table, .*, got 'drfit'"),
        ('tasks = ["imagenet",', 'tasks = ["imgnet",', r"tasks: 'imgnet' is not among the \[task\] tables: imagenet"),
        ('["imagenet", "birds", "cars"]', '["cars"]', "expected the first task and one or more that are added, got 1"),
        ('orders = "all"', 'orders = "some"', "orders: expected one of given, each, all, none, or a list of lists"),
        ('orders = "all"', 'orders = [["birds", "imagenet"]]', "'imagenet' is not among the added tasks: birds, cars"),
        ('orders = "all"', 'orders = [["birds"], ["birds"]]', "orders: an order is listed twice"),
        ("seeds = [0, 1]", "seeds = [1, 1]", r"seeds: expected one or more different whole numbers, got \[1, 1\]"),
        ("[scale.small]", '[scale.small]\ncolumns = ["lfw"]', "'lfw' is not among the columns: packnet-75, lwf"),
        ("[scale.small]", "[scale.small.column.lfw]\n[scale.small]", "'lfw' is not among the columns"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(designed: Designed, old: str, new: str, message: str) -> None:
    assert old in RECIPE
    with pytest.raises(UsageError, match=message) as error:
        designed(RECIPE.replace(old, new, 1))
    assert "\n" not in str(error.value)


def test_an_unknown_scale_lists_those_there_are(designed: Designed) -> None:
    with pytest.raises(UsageError, match=r"no scale 'huge'; it has: small"):
        designed(scale="huge")


def test_the_issues_recipes_ship() -> None:
    assert set(NAMES) <= shipped_recipes().keys()
    assert recipe_path("table2").read_text().startswith("# Table 2")
    assert recipe_path("mine.toml") == Path("mine.toml")
    with pytest.raises(UsageError, match=r"table9: expected a recipe's file or the name of one of: .*table2"):
        recipe_path("table9")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_every_shipped_recipe_is_a_plan_that_training_accepts(name: str, scale: str) -> None:
    path = recipe_path(name)
    experiment = read_experiment(path, scale)
    design = design_of(experiment, str(path))
    assert design.runs
    assert scale == "paper" or "tand-in" in experiment.about, "what stands in for the paper's is said"
    for run in design.runs:
        assert re.fullmatch(r"[\w.-]{10,120}", run.name)
        tasks_from({"task": [dict(task) for task in run.tasks]}, run.name)


@pytest.mark.parametrize("name", ["table2", "table3", "table4", "table5", "table6", "fig2-lwf-drift"])
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_every_table_of_results_has_its_cheapest_rival(name: str, scale: str) -> None:
    """A classifier and normalisation on the whole network, for every network that is compared."""
    columns = read_experiment(recipe_path(name), scale).columns
    assert {c.group for c in columns if c.method == "head-and-norm"} == {c.group for c in columns}
    same = {c.group: c for c in columns if c.method == "classifier-only"}
    for column in columns:
        if column.method == "head-and-norm" and (classifier := same.get(column.group)):
            assert column.options | {"method": ""} == classifier.options | {"method": ""}, "only the method differs"


@pytest.mark.parametrize("scale", ["small-mobilenet", "small-squeezenet"])
def test_transfer_gives_all_columns_the_same_epochs_orders_and_seeds(scale: str) -> None:
    design = design_of(read_experiment(recipe_path("transfer"), scale), "")
    columns: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for trial in design.trials:
        columns.setdefault(trial.column, []).append((trial.order, trial.seed))
        tasks = tasks_from({"task": [dict(task) for task in trial.run.tasks]}, "")
        assert [task.epochs + task.retrain_epochs for task in tasks] == [12] * 3
        assert [task.start for task in tasks] == ["network", None, None]
    assert list(columns) == ["classifier-only", "head-and-norm", "packnet", "individual"]
    assert all(trials == columns["individual"] for trials in columns.values())
    assert [seed for _, seed in columns["individual"]] == [0, 1, 2]
    assert len({order[0] for order, _ in columns["individual"]}) == 3


def trained(name: str, scale: str) -> dict[str, list[tuple[Trial, list[TrainOptions]]]]:
    """By column, its trials with what ``packnet train`` will be told."""
    found: dict[str, list[tuple[Trial, list[TrainOptions]]]] = {}
    for trial in design_of(read_experiment(recipe_path(name), scale), name).trials:
        tasks = tasks_from({"task": [dict(task) for task in trial.run.tasks]}, name)
        found.setdefault(trial.column, []).append((trial, tasks))
    return found


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_figure_4_judges_the_first_task_by_its_own_rate(scale: str) -> None:
    columns = trained("fig4-ratio", scale)
    for rate in (0.5, 0.75, 0.9):
        for _, (first,) in columns[f"first-{100 * rate:.0f}"]:
            assert (first.prune_rate, first.data is not None, first.retrain_epochs > 0) == (rate, True, True)
        for _, (first, added) in columns[f"packnet-{100 * rate:.0f}"]:
            assert (first.prune_rate, added.prune_rate) == (0.5, rate)
    assert len({trial.first for key, trials in columns.items() if "packnet" in key for trial, _ in trials}) == 1


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_figure_5_adds_every_task_whole_to_one_base(scale: str) -> None:
    """Columns compare what may change, so all else is the same: the very same first task, and no more pruning."""
    columns = trained("fig5-layers", scale)
    assert len({trial.first for trials in columns.values() for trial, _ in trials}) == 1
    for key, trials in columns.items():
        for _, (first, *added) in trials:
            assert (first.prune_rate, first.layers) == (0.5, "all")
            assert [(t.layers, t.prune_rate, t.retrain_epochs) for t in added] == [(key, 0.0, 0)]


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_table_6_adds_one_task_and_removes_filters_by_and_by(scale: str) -> None:
    """The paper: 400 of VGG-16's 12,416 filters and hidden units an epoch, for ten epochs."""
    columns = trained("table6", scale)
    assert {len(tasks) for trials in columns.values() for _, tasks in trials} == {2}
    assert len({tuple(trial.order for trial, _ in trials) for trials in columns.values()}) == 1, "sizes compare"
    for _, (first, added) in columns["filters-30"]:
        assert added.prune_rate == 0
        assert first.prune_steps == first.retrain_epochs
        removed = [round(s.part * first.prune_rate * 12416) for s in stages(first, 1) if isinstance(s, Prune)]
        assert scale == "small" or removed == [400 * step for step in range(1, 11)]
    for _, (first, added) in columns["packnet-50"]:
        assert (first.prune_rate, added.prune_rate) == (0.5, 0)


PAPER_SCALES = [name for name, path in shipped_recipes().items() if "[scale.paper]" in path.read_text("utf-8")]


@pytest.mark.parametrize("name", PAPER_SCALES)
def test_paper_scale_trains_as_the_paper_does_whatever_the_defaults_are(name: str) -> None:
    """Section 4: SGD with momentum 0.9, batches of 32, steps of a tenth; freed weights at 0, all else task 1's."""
    for key, trials in trained(name, "paper").items():
        for trial, tasks in trials:
            for task in tasks:
                assert (task.optimizer, task.momentum, task.weight_decay, task.batch_size) == ("sgd", 0.9, 0, 32)
                assert (task.lr, task.pattern, task.layer_rates, task.reference) == (1e-3, None, (), None)
                assert task.seed in (trial.seed, 0)
                assert task.separate == (("biases",) if key == "separate" and task.task in trial.order else ())
                assert task.milestones is not None
                assert task.retrain_milestones is not None
                assert (task.protocol, task.init, task.schedule) == ("paper", "zero", "step")
                assert (task.warmup, task.label_smoothing, task.freeze_epochs, task.lr_head) == (0, 0, 0, None)
            method_of(tasks)  # has a place for all that it is told


def test_the_papers_protocol() -> None:
    """Section 4: 6 orders, 3 seeds; ImageNet pruned, then 10 epochs at 1e-3; added tasks 20 + 10 epochs."""
    path = recipe_path("table2")
    design = design_of(read_experiment(path, "paper"), str(path))
    packed = [t for t in design.trials if t.column == "packnet-50"]
    assert len(packed) == 18
    assert len({t.order for t in packed}) == 6
    imagenet, *added = tasks_from({"task": [dict(task) for task in packed[0].run.tasks]}, "")
    assert (imagenet.epochs, imagenet.retrain_epochs, imagenet.retrain_lr) == (0, 10, 1e-3)
    assert (imagenet.retrain_milestones, imagenet.prune_rate) == ((5,), 0.5)
    for task in added:
        assert (task.epochs, task.lr, task.milestones) == (20, 1e-3, (10,))
        assert (task.retrain_epochs, task.retrain_lr, task.retrain_milestones) == (10, 1e-4, ())
        assert (task.prune_rate, task.batch_size, task.momentum, task.optimizer) == (0.75, 32, 0.9, "sgd")


def test_the_documentations_example_is_a_recipe(designed: Designed) -> None:
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text("utf-8")
    design = designed(text.partition("```toml\n")[2].partition("```")[0])
    assert len(design.trials) == 3
    assert [task.get("prune_rate") for task in design.trials[0].run.tasks] == [0.75, 0.5]
