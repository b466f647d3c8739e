"""Runs: what makes two of them one, what their recipes say, and which begin with the same first task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
from comparison import RECIPE

from packnet_deploy.experiments.design import Design, dataset_under, design_of, missing_files, weights_under
from packnet_deploy.experiments.folder import RunFolder
from packnet_deploy.experiments.recipe import read_experiment, recipe_path
from packnet_deploy.training.recipe import read_recipe, read_toml, tasks_from

Designed = Callable[..., Design]


def names(design: Design, column: str) -> list[str]:
    return [trial.run.name for trial in design.trials if trial.column == column]


def test_the_name_tells_method_network_order_and_seed(designed: Designed) -> None:
    assert names(designed(), "lwf")[3].startswith("lwf-quickstart-cars-birds-s1-")


def test_what_changes_the_result_changes_the_hash_and_nothing_else_does(designed: Designed) -> None:
    before = names(designed(), "packnet-75")
    assert len(set(before)) == len(before)
    for same in (
        RECIPE.replace('"A comparison"', '"Another"'),
        RECIPE.replace('"PackNet"', '"Packing"'),
        RECIPE.replace("epochs = 2", 'epochs = 2\ndevice = "cpu"\nworkers = 1'),
        RECIPE.replace("epochs = 2", "epochs = 2\nprune_rate = 0.75"),  # the default, spelled out
    ):
        assert same != RECIPE
        assert names(designed(same), "packnet-75") == before
    for other in (
        RECIPE.replace("epochs = 2", "epochs = 3"),
        RECIPE.replace("epochs = 2", "epochs = 2\nlr = 0.002"),
        RECIPE.replace("builtin:digits", "imagefolder:digits"),
        RECIPE.replace('label = "PackNet"', 'separate = ["biases"]'),
        RECIPE.replace('label = "PackNet"', "first = { prune_rate = 0.5 }"),
    ):
        assert other != RECIPE
        assert not set(names(designed(other), "packnet-75")) & set(before)


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_experiments_share_runs(scale: str) -> None:
    """Figures 2 and 3 are mostly table 2, looked at otherwise."""
    runs = {}
    for name in ("table2", "fig2-lwf-drift", "fig3-order"):
        path = recipe_path(name)
        runs[name] = {run.name for run in design_of(read_experiment(path, scale), str(path)).runs}
    assert runs["fig2-lwf-drift"] <= runs["table2"]
    assert len(runs["fig3-order"] & runs["table2"]) >= len(runs["fig3-order"]) / 3


def test_runs_share_a_first_task_that_is_trained(designed: Designed) -> None:
    design = designed()
    packed = [t for t in design.trials if t.column == "packnet-75"]
    bases = {t.run.base.name for t in packed if t.run.base is not None}
    assert len(bases) == 1
    assert len({t.first for t in packed}) == 1
    assert {t.run.tasks[0]["seed"] for t in packed} == {0}
    assert {t.run.tasks[1]["seed"] for t in packed} == {0, 1}
    assert [run.name for run in design.runs].index(*bases) == 0, "a base runs before what continues it"
    assert len(design.runs) == len(design.trials) + 1
    others = [t for t in design.trials if t.column == "lwf"]
    assert all(t.run.base is None and t.first == t.run.name for t in others)


def test_a_network_of_its_own_is_one_training_whatever_is_trained_after_it(designed: Designed) -> None:
    """Its figure counts once a seed; each run trains it, since there is no pack to begin with."""
    alone = [t for t in designed(RECIPE.replace('orders = "given"', "")).trials if t.column == "individual"]
    assert [(t.order[0], t.seed) for t in alone] == [("birds", 0), ("birds", 1), ("cars", 0), ("cars", 1)]
    assert alone[0].first == alone[2].first != alone[1].first == alone[3].first
    assert all(t.run.base is None for t in alone)


def test_a_network_taken_as_it_is_needs_no_base(designed: Designed) -> None:
    design = designed(RECIPE.replace('data = "builtin:letters"', "epochs = 0\nretrain_epochs = 0"))
    assert all(trial.run.base is None for trial in design.trials)


def test_the_recipe_is_one_that_training_reads(designed: Designed, tmp_path: Path) -> None:
    text = RECIPE.replace("builtin:digits", "imagefolder:digits").replace(
        "epochs = 2", 'epochs = 2\nweights = "w.pth"\nlayer_rates = ["features.*=0.5"]'
    )
    run = designed(text).trials[1].run
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(run.recipe(Path("/data"))))
    first, birds, cars = read_recipe(path)
    assert (first.task, birds.task, cars.task) == ("imagenet", "birds", "cars")
    assert (first.seed, birds.seed, first.epochs, cars.retrain_epochs) == (0, 1, 2, 1)
    assert (birds.data, cars.data) == ("imagefolder:/data/digits", "builtin:textures")
    assert (first.weights, first.pack, birds.milestones) == ("/data/w.pth", Path("tasks.pack"), ())
    assert birds.layer_rates == ("features.*=0.5",)
    assert run.epochs == 9


def test_texts_survive_toml(tmp_path: Path) -> None:
    awkward = 'quote " backslash \\ tab \t line \n delete \x7f umlaut ü beyond \U0001f426'
    recipe = {"data": awkward, "lr": 1e-05, "yes": True, "task": [{"n": [1, "a"]}, {}]}
    folder = RunFolder(tmp_path / "run")
    folder.prepare(recipe, None)
    assert read_toml(folder.recipe) == recipe


def test_where_images_and_weights_lie(tmp_path: Path) -> None:
    assert dataset_under("builtin:digits", Path("/data")) == "builtin:digits"
    assert dataset_under("cars:stanford/cars", Path("/data")) == "cars:/data/stanford/cars"
    assert dataset_under("cars:/elsewhere", Path("/data")) == "cars:/elsewhere"
    assert dataset_under("flowers", Path("/data")) == "/data/flowers"
    assert weights_under("IMAGENET1K_V1", Path("/data")) == "IMAGENET1K_V1"
    assert weights_under("w/net.pth", Path("/data")) == "/data/w/net.pth"


def test_what_is_not_there_is_listed(designed: Designed, tmp_path: Path) -> None:
    text = RECIPE.replace("builtin:digits", "imagefolder:digits").replace("epochs = 2", 'epochs = 2\nweights = "w.pth"')
    runs = designed(text).runs
    assert missing_files(runs, tmp_path) == [str(tmp_path / "digits"), str(tmp_path / "w.pth")]
    (tmp_path / "digits").mkdir()
    (tmp_path / "w.pth").touch()
    assert missing_files(runs, tmp_path) == []


def test_designs_read_alike_by_training(designed: Designed) -> None:
    for run in designed().runs:
        assert [t.task for t in tasks_from({"task": [dict(t) for t in run.tasks]}, "")] == [
            t["name"] for t in run.tasks
        ]
