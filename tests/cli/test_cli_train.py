"""`packnet train` and `packnet eval` on small image folders, and every way of asking for something impossible."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from image_folders import image_folder

from packnet_deploy.pack import Pack

Packnet = Callable[..., Any]
FAST = ("--epochs", 1, "--retrain-epochs", 1, "--device", "cpu")
SMALL = ("--arch", "quickstart", "--weights", "none", "--image-size", 16, *FAST)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with two image sets beside it."""
    image_folder(tmp_path / "a", classes=2)
    image_folder(tmp_path / "b", classes=3, seed=1)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def test_two_tasks_one_after_the_other(packnet: Packnet, folder: Path) -> None:
    first = packnet("train", "--task", "one", "--data", "../a", *SMALL)
    assert first.code == 0, first.err
    assert "one: train  epoch 1/1" in first.out, "plain lines where there is no terminal"
    assert "images/s" in first.out
    delta = folder / "packnet.pack" / Pack.open("packnet.pack").tasks[0].file
    before = delta.read_bytes()
    second = packnet("train", "--task", "two", "--data", "../b", "--value-dtype", "bfloat16", *FAST)
    assert second.code == 0, second.err
    assert delta.read_bytes() == before
    row = next(line.split() for line in second.out.splitlines() if line.strip().startswith("one "))
    assert row[-1] == "0", "the older task has not moved"
    about = json.loads(packnet("inspect", "packnet.pack", "--json").out)
    assert [len(task["classes"]) for task in about["tasks"]] == [2, 3]
    for layer in about["layers"]:
        one = layer["size"] - round(0.75 * layer["size"])
        left = layer["size"] - one
        assert layer["owned"] == [one, left - round(0.75 * left)]
    assert packnet("verify").code == 0
    assert packnet("export", "--all-tasks").code == 0
    measured = packnet("eval", "--task", "two", "--data", "../b")
    report = about["tasks"][1]["report"]
    assert f"top-1 {100 * report['accuracy_test']:.1f} %" in measured.out, "the shipped task is the measured one"


def test_the_same_seed_gives_the_same_pack(packnet: Packnet, folder: Path) -> None:
    for name in ("x.pack", "y.pack"):
        assert packnet("train", "--task", "one", "--data", "../a", "--pack", name, *SMALL).code == 0
    assert Pack.open("x.pack").manifest == Pack.open("y.pack").manifest


def test_a_recipe_goes_on_where_it_stopped(packnet: Packnet, folder: Path) -> None:
    text = 'pack="r.pack"\narch="quickstart"\nweights="none"\nimage_size=16\nepochs=1\nretrain_epochs=0\ndevice="cpu"\n'
    (folder / "r.toml").write_text(text + '[[task]]\nname="one"\ndata="../a"\n')
    assert packnet("train", "r.toml").code == 0
    (folder / "r.toml").write_text(text + '[[task]]\nname="one"\ndata="../a"\n[[task]]\nname="two"\ndata="../b"\n')
    result = packnet("train", "r.toml", "--prune-rate", 0)
    assert result.code == 0, result.err
    assert "one: in r.pack already, skipped" in result.out
    full = packnet("train", "--task", "three", "--data", "../a", *FAST)
    assert full.code == 2
    assert "no free weights are left" in full.err
    assert "features.15.weight" in full.err, "the capacity table says where they went"


def test_a_trained_network_can_be_the_first_task_without_images(packnet: Packnet, folder: Path) -> None:
    state = torchvision.models.squeezenet1_1(weights=None, num_classes=1000).state_dict()
    torch.save(state, "w.pth")
    arguments = ("--arch", "squeezenet1_1", "--weights", "w.pth", "--image-size", 64)
    taken = packnet(
        "train", "--task", "imagenet", "--epochs", 0, "--retrain-epochs", 0, "--prune-rate", 0.5, *arguments
    )
    assert taken.code == 0, taken.err
    pack = Pack.open("packnet.pack")
    assert pack.header("imagenet").classes[0] == "tench"
    tensors = pack.load_task("imagenet").tensors
    assert (tensors["head.weight"] == state["classifier.1.weight"].numpy()).all(), "its own head is kept"
    assert packnet("verify").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--task", "x", "--data", "../nowhere", *SMALL), 3, "nowhere"),
        (("--task", "x", *SMALL), 2, "--data"),
        (("--data", "../a", *SMALL), 2, "--task"),
        (("--task", "../x", "--data", "../a", *SMALL), 2, "task name"),
        (("--task", "x", "--data", "../a", *SMALL, "--arch", "resnet81"), 2, "resnet18"),
        (("--task", "x", "--data", "../a", *SMALL, "--prune-rate", 1.5), 2, "--prune-rate: expected 0..1, got 1.5"),
        (("--task", "x", "--data", "../a", *SMALL, "--lr", -1), 2, "--lr"),
        (("--task", "x", "--data", "../a", *SMALL, "--epochs", "many"), 2, "--epochs"),
        (("--task", "x", "--data", "../a", *SMALL, "--value-dtype", "int8"), 2, "--value-dtype"),
        (("--task", "x", "--data", "../a", *SMALL, "--weights", "no.pth"), 3, "no.pth"),
        (("--task", "x", "--data", "../a", *SMALL, "--epochs", 0), 2, "--epochs 0"),
        (("--task", "x", "--data", "../a", *SMALL, "--lr", 1e30), 1, "the loss is"),
        (("no.toml",), 3, "no.toml"),
        (("bad.toml",), 4, "bad.toml"),
        (("unknown.toml",), 2, "unknown key 'epoch'"),
        (("wrong.toml",), 2, "epochs: expected int"),
        (("none.toml",), 2, "[[task]]"),
        (("unknown.toml", "--task", "x"), 2, "--task and --data"),
    ],
)
def test_training_refusals(packnet: Packnet, folder: Path, arguments: tuple[Any, ...], code: int, says: str) -> None:
    (folder / "bad.toml").write_text("= 3")
    (folder / "unknown.toml").write_text("epoch = 3\n[[task]]\nname = 'x'\n")
    (folder / "wrong.toml").write_text("epochs = '3'\n[[task]]\nname = 'x'\n")
    (folder / "none.toml").write_text("epochs = 3\n")
    result = packnet("train", *arguments)
    assert result.code == code, result.err
    assert result.err.count("\n") == 1
    assert says in result.err
    assert not list(folder.glob("*.pack")), "nothing half-made is left"
    assert not list(folder.glob(".tmp-*"))


def test_what_cannot_be_added_to_a_pack(packnet: Packnet, folder: Path) -> None:
    assert packnet("train", "--task", "one", "--data", "../a", *SMALL).code == 0
    for arguments, says in (
        (("--task", "one", "--data", "../a"), "in it already"),
        (("--task", "two", "--data", "../a", "--arch", "resnet18"), "the pack's is quickstart"),
        (("--task", "two", "--data", "../a", "--image-size", 32), "the pack's is 16"),
        (("--task", "two", "--data", "../a", "--weights", "imagenet"), "leave the option out"),
        (("--task", "two", "--data", "../a", "--epochs", 0), "--epochs 0"),
        (("--task", "two"), "--data"),
    ):
        result = packnet("train", *arguments)
        assert result.code == 2, result.err
        assert result.err.count("\n") == 1
        assert says in result.err
    assert len(Pack.open("packnet.pack").tasks) == 1


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda state: {**state, "extra.weight": torch.zeros(1)}, 4, "extra.weight"),
        (lambda state: {k: v for k, v in state.items() if "0.0." not in k and k != "features.0.weight"}, 4, "missing"),
        (lambda state: [1, 2], 4, "state dict"),
        (lambda state: {k: v for k, v in state.items() if not k.startswith("head.")}, 2, "holds no head.weight"),
    ],
)
def test_weights_that_do_not_fit(
    packnet: Packnet, folder: Path, make: Callable[[Any], Any], code: int, says: str
) -> None:
    from packnet_deploy.training.backbones import quickstart_network

    torch.save(make(quickstart_network(5).state_dict()), "w.pth")
    result = packnet(
        "train", "--task", "x", "--epochs", 0, "--retrain-epochs", 0, "--arch", "quickstart", "--weights", "w.pth"
    )
    assert result.code == code, result.err
    assert says in result.err
    assert result.err.count("\n") == 1


def test_interrupting_leaves_the_pack_as_it_was(
    packnet: Packnet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from packnet_deploy.training import run

    assert packnet("train", "--task", "one", "--data", "../a", *SMALL).code == 0
    before = {p: p.read_bytes() for p in Path("packnet.pack").rglob("*") if p.is_file()}

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit", interrupted)
    result = packnet("train", "--task", "two", "--data", "../b", *FAST)
    assert result.code == 130
    assert {p: p.read_bytes() for p in Path("packnet.pack").rglob("*") if p.is_file()} == before


def test_the_test_images_are_looked_at_once_after_everything_is_decided(
    packnet: Packnet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from packnet_deploy.training import run

    seen: list[str] = []
    names = {id(None): "none"}
    original_open, original_accuracy = run.open_dataset, run.accuracy

    def opened(*arguments: Any, **options: Any) -> Any:
        data = original_open(*arguments, **options)
        names.update({id(data.val): "val", id(data.test): "test"})
        return data

    def accuracy(module: Any, batches: Any) -> float:
        seen.append(names[id(batches._split)])
        return original_accuracy(module, batches)

    monkeypatch.setattr(run, "open_dataset", opened)
    monkeypatch.setattr(run, "accuracy", accuracy)
    assert packnet("train", "--task", "one", "--data", "../a", *SMALL).code == 0
    assert seen == ["val", "val", "val", "test"]
    from packnet_deploy.training import fit

    assert fit.accuracy is original_accuracy, "inside the loop only the loader passed as val is measured"


@pytest.mark.slow
def test_the_built_in_quickstart_runs(packnet: Packnet, folder: Path) -> None:
    result = packnet("train", *FAST)
    assert result.code == 0, result.err
    assert [task.name for task in Pack.open("quickstart.pack").tasks] == ["letters", "digits", "textures"]
    assert packnet("verify").code == 0
