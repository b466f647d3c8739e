"""`packnet train` and `packnet eval` on small image folders, and every way of asking for something impossible."""

from __future__ import annotations

import json
import os
import re
import signal
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
    assert "one: train  epoch 1/2" in first.out, "plain lines where there is no terminal"
    assert "images/s" in first.out
    delta = folder / "packnet.pack" / Pack.open("packnet.pack").tasks[0].file
    before = delta.read_bytes()
    second = packnet("train", "--task", "two", "--data", "../b", "--value-dtype", "bfloat16", *SMALL)  # as a loop would
    assert second.code == 0, second.err
    assert second.out.startswith("adding to packnet.pack (the only pack here): two;")
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
    top1 = report["errors"]["retrained"]["test"][0]
    assert f", error {100 * top1:.1f} %" in measured.out, "the shipped task is the measured one"
    rows = (folder / "packnet.train/results.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows] == [["stage", "task"], ["one", "one"], ["two", "two"]]


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
    assert "one: train" not in result.out, "it is in r.pack already"
    assert "two: train  epoch 1/1" in result.out
    full = packnet("train", "--task", "three", "--data", "../a", *FAST)
    assert full.code == 2
    assert "r.pack (the only pack here, taken because --pack was left out): expected free weights" in full.err


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
        (
            ("--task", "two", "--data", "../a", "--arch", "resnet18"),
            "expected quickstart, as in packnet.pack (the only",
        ),
        (("--task", "two", "--data", "../a", "--image-size", 32), "expected 16, as in packnet.pack"),
        (
            ("--task", "two", "--data", "../a", "--arch", "resnet18", "--pack", "packnet.pack"),
            "as in packnet.pack; leave",
        ),
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
    from packnet_deploy.training import task

    assert packnet("train", "--task", "one", "--data", "../a", *SMALL).code == 0
    before = {p: p.read_bytes() for p in Path("packnet.pack").rglob("*") if p.is_file()}

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "fit", interrupted)
    result = packnet("train", "--task", "two", "--data", "../b", *FAST)
    assert result.code == 130
    assert {p: p.read_bytes() for p in Path("packnet.pack").rglob("*") if p.is_file()} == before


# -- going on after an interruption --------------------------------------------------------------------------------


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process SIGTERM in the middle of its ``step``-th training step from now, once."""
    from packnet_deploy.training import fit

    steps, original = 0, fit._Training.step

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(fit._Training, "step", counted)


def deltas(pack: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(pack, "deltas").iterdir())]


RECIPE = """
arch = "quickstart"
weights = "none"
image_size = 16
epochs = 2
retrain_epochs = 1
batch_size = 4
device = "cpu"
[[task]]
name = "one"
data = "../a"
[[task]]
name = "two"
data = "../b"
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_an_interrupted_training_goes_on_by_resume_alone(
    packnet: Packnet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "r.toml").write_text(RECIPE)
    assert packnet("train", "r.toml", "--pack", "whole.pack").code == 0
    with monkeypatch.context() as patch:
        interrupt(patch, 14)  # in the second task
        stopped = packnet("train", "r.toml", "--pack", "p.pack")
    assert stopped.code == 143
    assert re.fullmatch(
        r"packnet: two: (re)?train: step \d of epoch \d: stopped; go on with: packnet train --resume\n", stopped.err
    )
    assert (folder / "p.train/checkpoint.pt").exists()
    assert len(Pack.open("p.pack").tasks) == 1

    for arguments, code, says in (
        (("r.toml", "--pack", "p.pack"), 2, "a training was interrupted here; go on with it by --resume"),
        (("r.toml", "--pack", "p.pack", "--resume", "--lr", 0.5), 2, "with lr 0.02, now it is 0.5"),
        (("--resume", "--lr", 0.5, "--pack", "p.pack"), 2, "--resume takes all options from the interrupted training"),
        (("--resume",), 2, "expected one *.train/ folder to go on with, got several (p.train, whole.train)"),
        (("--resume", "--pack", "other.pack"), 3, "there is no training to go on with"),
    ):
        refused = packnet("train", *arguments)
        assert (refused.code, refused.err.count("\n")) == (code, 1), refused.err
        assert says in refused.err

    assert packnet("train", "--resume", "--pack", "p.pack").code == 0
    assert deltas("p.pack") == deltas("whole.pack")
    assert not (folder / "p.train/checkpoint.pt").exists()

    # A third task that was killed before it was noted is not done either.
    again = packnet("train", "--resume", "--pack", "p.pack")
    assert again.code == 2
    assert "p.pack holds one, two, all that is noted beside it, so there is nothing to go on with" in again.err


def test_resume_where_nothing_was_begun(packnet: Packnet, folder: Path) -> None:
    result = packnet("train", "--resume")
    assert result.code == 2
    assert result.err.startswith(
        "packnet: --resume: expected one *.train/ folder to go on with, got none in this folder"
    )


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_recipe_goes_on_that_began_with_the_network_itself(
    packnet: Packnet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the recipe as by --resume alone, into a pack whose name ends otherwise."""
    from packnet_deploy.training.backbones import quickstart_network

    torch.save(quickstart_network(4).state_dict(), "w.pth")
    (folder / "r.toml").write_text(RECIPE.replace('"none"', '"w.pth"'))
    assert packnet("train", "r.toml", "--pack", "whole").code == 0
    (folder / "whole.train").rename("whole.logs")
    for name, resume in (("p", ("r.toml", "--pack", "p", "--resume")), ("q", ("--resume",))):
        with monkeypatch.context() as patch:
            interrupt(patch, 4)
            assert packnet("train", "r.toml", "--pack", name).code == 143
        resumed = packnet("train", *resume)
        assert resumed.code == 0, resumed.err
        assert deltas(name) == deltas("whole")
        (folder / f"{name}.train").rename(f"{name}.logs")
    assert [task.name for task in Pack.open("q").tasks] == ["pretrained", "one", "two"]


def test_a_network_of_ones_own_can_begin_the_pack_without_being_a_task(packnet: Packnet, folder: Path) -> None:
    from packnet_deploy.training.backbones import quickstart_network

    torch.save(quickstart_network(4).state_dict(), "w.pth")
    begin = ("--data", "../a", "--arch", "quickstart", "--weights", "w.pth", "--image-size", 16, *FAST)
    assert packnet("train", "--task", "x", "--start", "task", "--pack", "x.pack", *begin).code == 0
    assert [task.name for task in Pack.open("x.pack").tasks] == ["x"]
    assert packnet("train", "--task", "x", "--pack", "y.pack", *begin).code == 0
    first, _ = Pack.open("y.pack").tasks
    assert (first.name, first.classes) == ("pretrained", 4)
    kept = sum(layer.owned[0] for layer in Pack.open("y.pack").capacity())
    assert kept == pytest.approx(0.7 * Pack.open("y.pack").manifest.weights, rel=1e-3)


def test_images_left_out_are_listed(packnet: Packnet, folder: Path) -> None:
    (folder.parent / "a/train/class1/0.png").write_bytes(b"no picture")
    stopped = packnet("train", "--task", "one", "--data", "../a", *SMALL)
    assert stopped.code == 3
    assert "--skip-bad-images" in stopped.err
    went_on = packnet("train", "--task", "one", "--data", "../a", "--skip-bad-images", *SMALL)
    assert went_on.code == 0, went_on.err
    assert "one: left out, cannot be read: ../a/train/class1/0.png" in went_on.out


def test_the_networks_are_listed(packnet: Packnet) -> None:
    shown = packnet("train", "--list-archs").out
    (line,) = (line for line in shown.splitlines() if line.strip().startswith("vgg16 "))
    assert line.split()[:4] == ["vgg16", "classifier.6", "IMAGENET1K_V1,", "IMAGENET1K_FEATURES"]
    assert line.split()[4:] == ["134,248,128", "224", "px"]
    listed = json.loads(packnet("train", "--list-archs", "--json").out)["networks"]
    assert {"name": "quickstart", "packable": 281520, "head": "head", "input_size": 32, "weights": []} in listed


def test_a_network_is_looked_at_before_its_weights_and_the_images(packnet: Packnet, folder: Path) -> None:
    for data in ("../a", "../nowhere"):
        refused = packnet("train", "--task", "x", "--data", data, "--start", "task", "--arch", "Resnet81")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "did you mean" in refused.err
        assert "resnet18" in refused.err
    result = packnet("train", "--task", "x", "--data", "../a", *SMALL, "--arch", "QuickStart")
    assert result.code == 0, result.err
    assert Pack.open("packnet.pack").backbone.arch == "quickstart"


@pytest.mark.slow
def test_the_built_in_quickstart_runs(packnet: Packnet, folder: Path) -> None:
    result = packnet("train", *FAST)
    assert result.code == 0, result.err
    assert [task.name for task in Pack.open("quickstart.pack").tasks] == ["letters", "digits", "textures"]
    assert packnet("verify").code == 0
