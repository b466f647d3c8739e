"""``--json``: every command has it, prints one object and nothing else, and with the fields that docs/json.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from image_folders import image_folder
from stand_in_plans import write_plan

from packnet_deploy.cli.app import app
from packnet_deploy.pack import Pack

Packnet = Callable[..., Any]
PAGE = (Path(__file__).parents[2] / "docs/json.md").read_text()
SMALL = ("--arch", "quickstart", "--weights", "none", "--image-size", 16, "--device", "cpu")
QUICK = ("--epochs", 1, "--retrain-epochs", 0)


def documented(command: str) -> tuple[set[str], set[str]]:
    """The fields of a command's object, and those of the items in its last field, where these are listed."""
    (row,) = re.findall(rf"^\| {re.escape(command)} \| (.*) \|$", PAGE, re.MULTILINE)
    outer, _, inner = row.partition(": ")
    fields = [set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", part))) for part in (outer, inner)]
    return fields[0], fields[1]


def the_object(result: Any, command: str) -> dict[str, Any]:
    """What was printed, held against the page."""
    document = json.loads(result.out)
    fields, items = documented(command)
    assert isinstance(document, dict)
    assert fields <= document.keys(), command
    last = document[next(reversed(document))]
    if items and last:
        assert items <= last[0].keys(), command
    return document


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield (*names, name), command


def test_every_command_has_it() -> None:
    for names, command in commands(app):
        assert "as_json" in {parameter.name for parameter in command.params}, names
        assert f"| `{' '.join(names)}" in PAGE, names


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("`inspect PACK`", "inspect golden.pack"),
        ("`inspect DELTA`", "inspect birds.delta"),
        ("`inspect FILE.onnx`", "inspect birds.onnx"),
        ("`inspect FILE.plan`", "inspect all.plan"),
        ("`verify`", "verify"),
        ("`verify --against`", "verify --against onnxrt"),
        ("`export`", "export --all-tasks -o exports"),
        ("`export --plan`", "export --format triton --plan one.plan"),
        ("`build --dry-run`", "build --dry-run"),
        ("`predict`", "predict birds photos/test/class0"),
        ("`delta extract`", "delta extract --task flowers -o f.delta"),
        ("`delta apply`", "delta apply birds.delta"),
        ("`bench`", "bench birds.onnx --seconds 0.01 --repeats 2"),
        ("`doctor`", "doctor"),
        ("`experiment`", "experiment table2 --scale small --dry-run"),
        ("`experiment` without a recipe", "experiment"),
    ],
)
def test_one_object_with_the_fields_that_the_page_lists(packnet: Packnet, here: Path, command: str, line: str) -> None:
    assert packnet("export", "--task", "birds").code == 0
    assert packnet("delta", "extract", "--task", "birds", "-o", "birds.delta").code == 0
    pack = Pack.open(here / "golden.pack")
    write_plan(here / "all.plan", pack, "refit")
    (here / "all.plan").write_bytes(b"ftrt" + bytes(100))  # as TensorRT's begin
    write_plan(here / "one.plan", pack, "none", task="birds")
    image_folder(here / "photos")
    result = packnet(*line.split(), "--json")
    assert result.code == 0, result.err
    assert result.err == "" or command == "`experiment`", "whose runs are listed meanwhile"
    the_object(result, command)


def test_eval_and_training_print_an_object_and_talk_beside_it(packnet: Packnet, here: Path) -> None:
    image_folder(here / "photos")
    (here / "photos/train/class1/0.png").write_bytes(b"no picture")
    train = ("train", "--task", "one", "--data", "photos", "--pack", "new.pack", "--skip-bad-images", *SMALL, *QUICK)
    result = packnet(*train, "--json")
    assert result.code == 0, result.err
    document = the_object(result, "`train`")
    assert "one: train  epoch 1/1" in result.err
    (task,) = document["tasks"]
    assert {f"`{name}`" for name in task} <= set(re.findall(r"`\w+`", PAGE.partition("The `tasks` of `train`")[2]))
    assert (task["pack"], task["task"], task["change"]) == ("new.pack", "one", None)
    assert set(task["errors"]) == {"trained", "pruned", "retrained", "test"}
    assert document["left_out"] == {"one": ["photos/train/class1/0.png"]}
    measured = packnet("eval", "--pack", "new.pack", "--task", "one", "--data", "photos", "--json")
    assert the_object(measured, "`eval`")["error"] == task["errors"]["test"]


def test_the_demo_and_its_images(packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two tasks of few images."""
    from packnet_deploy.data import builtin
    from packnet_deploy.training import recipe

    real = builtin.load

    def few(*arguments: Any, **options: Any) -> Any:
        data = real(*arguments, **options)
        parts = {name: getattr(data, name) for name in ("train", "val", "test")}
        return replace(data, **{name: part.subset(np.arange(min(len(part), 40))) for name, part in parts.items()})

    monkeypatch.setattr(builtin, "load", few)
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "NAMES", ("digits",))
        the_object(packnet("demo", "--images", "data", "--json"), "`demo --images`")
    quick = 'arch="quickstart"\nweights="none"\nepochs=1\nretrain_epochs=1\ndevice="cpu"\n'
    tasks = "".join(f'[[task]]\nname="{name}"\ndata="builtin:{name}"\n' for name in ("digits", "textures"))
    (here / "quick.toml").write_text(quick + tasks)
    monkeypatch.setattr(recipe, "QUICKSTART_RECIPE", here / "quick.toml")
    result = packnet("demo", "-o", "road", "--json")
    assert result.code == 0, result.err
    _, task = the_object(result, "`demo`")["tasks"]
    assert "digits: train  epoch 1/2" in result.err
    assert task["passes"] is True
    assert set(task["p50_ms"]) == {"1", "32"}
    assert (here / task["onnx"]).is_file()
    text = packnet("demo", "-o", "road")
    assert text.code == 0, text.err
    assert f"written: {task['pack']}, road/digits.onnx, {task['onnx']}" in text.out


def test_a_refusal_prints_no_object(packnet: Packnet, here: Path) -> None:
    refused = packnet("predict", "cars", "nowhere.png", "--json")
    assert (refused.code, refused.out, refused.err.count("\n")) == (3, "", 1)


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    from packnet_deploy.cli.show import say_json

    say_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": (None, "\u202e")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": [None, "\u202e"]}
