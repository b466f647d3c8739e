"""Two processes that train one network: the same owners on both, one that writes, and what one alone would come to."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from small_training import NEW, QUICK, Alone, contents, finish, make_training_small, recipe, small_classifier, train
from torch import nn

from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack import Pack, atomic
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training import backbones, distributed
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.start import with_network_first
from packnet_deploy.training.train_folder import TrainFolder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks as POSIX has them")
Coloured = Callable[..., Path]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    make_training_small(monkeypatch.setattr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def no_writing() -> None:
    """From here on, writing a file or making a folder is an error in this process."""

    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise AssertionError(f"this process is not to write: {arguments}")

    atomic.open = atomic.os.replace = Path.mkdir = Path.unlink = refuse  # type: ignore


def no_change() -> None: ...


def together(tasks: list[TrainOptions], path: Path, *befores: Callable[[], None], **options: Any) -> list[int]:
    """The exit codes of two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = befores or (no_change, no_writing)
    alone = Alone(tasks, path, size=2, port=port, before=first, **options)
    processes = [alone.start(), replace(alone, rank=1, before=second).start()]
    return [finish(process) for process in processes]


def said(path: Path) -> list[str]:
    """The errors that ended the two, by their ranks."""
    return [replace(Alone([], path), rank=rank).said.read_text() for rank in (0, 1)]


def without_averages(classes: int) -> nn.Module:
    """The small network without BatchNorm and dropout, where each process goes ways of its own."""
    network = small_classifier(classes)
    network.features[1], network.dropout = nn.GroupNorm(2, 8), nn.Identity()
    return network


def use_network_without_averages() -> None:
    backbones.quickstart_network = without_averages


def test_two_processes_do_what_one_does_with_the_same_batches(
    coloured: Coloured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of five: three images for one process, two for the other. Errors are of all images."""
    tasks = recipe(coloured("a", train=7, val=3, test=4), retrain_epochs=0, prune_rate=0.0)
    assert together(tasks, tmp_path / "two.pack", *[use_network_without_averages] * 2) == [0, 0]
    monkeypatch.setattr(backbones, "quickstart_network", without_averages)
    train(tasks, tmp_path / "one.pack")
    two, one = (Pack.open(tmp_path / f"{name}.pack") for name in ("two", "one"))
    for name, values in one.load_task("a").tensors.items():
        np.testing.assert_allclose(two.load_task("a").tensors[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    assert two.header("a").report["errors"] == one.header("a").report["errors"]
    logs = [TrainFolder.beside(pack.path).log().rows() for pack in (two, one)]
    assert [row[:4] + row[5:7] for row in logs[0]] == [row[:4] + row[5:7] for row in logs[1]]
    assert [float(row[4]) for row in logs[0]] == pytest.approx([float(row[4]) for row in logs[1]], rel=1e-4)


def test_tasks_are_packed_as_by_one_process(coloured: Coloured, tmp_path: Path) -> None:
    """With BatchNorm and dropout, two tasks: as many weights each, the older one unchanged, about as good."""
    tasks = recipe(coloured("a"), coloured("b", classes=3), epochs=6, retrain_epochs=4, prune_steps=2, lr=0.1)
    assert together(tasks, tmp_path / "two.pack") == [0, 0]
    train(tasks, tmp_path / "one.pack")
    two, one = (Pack.open(tmp_path / f"{name}.pack") for name in ("two", "one"))
    assert [(la.name, la.owned, la.free) for la in two.capacity()] == [
        (la.name, la.owned, la.free) for la in one.capacity()
    ]
    assert all(check.passes for check in verify_pack(two))
    for task in "ab":
        errors = [pack.header(task).report["errors"]["retrained"]["test"][0] for pack in (two, one)]
        assert abs(errors[0] - errors[1]) <= 0.35, "of eight images, or twelve"
    results = [TrainFolder.beside(pack.path).results().rows() for pack in (two, one)]
    assert [row[:2] for row in results[0]] == [row[:2] for row in results[1]]


def test_both_come_to_the_same_scores_by_all_images(coloured: Coloured, tmp_path: Path) -> None:
    """Each process sees gradients of its own share; owners that differ would end both with an error."""
    tasks = recipe(coloured("a"), score="taylor", prune_steps=2, retrain_epochs=2)
    assert together(tasks, tmp_path / "two.pack") == [0, 0]
    assert sum(layer.free for layer in Pack.open(tmp_path / "two.pack").capacity()) > 0


def test_both_find_the_same_rate(coloured: Coloured, tmp_path: Path) -> None:
    """Stopped in the search and resumed."""
    tasks = recipe(coloured("a"), max_drop=0.2, epochs=2, retrain_epochs=1)
    assert together(tasks, tmp_path / "whole.pack") == [0, 0]
    assert together(tasks, tmp_path / "p.pack", stop_at=14) == [143, 143]
    assert "a: try 0." in said(tmp_path / "p.pack")[1]
    assert together(tasks, tmp_path / "p.pack", resume=True) == [0, 0]
    assert contents(tmp_path / "p.pack") == contents(tmp_path / "whole.pack")


def test_stopped_and_resumed_by_two_it_comes_to_the_same_bytes(coloured: Coloured, tmp_path: Path) -> None:
    tasks, path = recipe(coloured("a"), retrain_epochs=2, prune_steps=2), tmp_path / "p.pack"
    assert together(tasks, tmp_path / "whole.pack") == [0, 0]
    assert together(tasks, path, stop_at=4) == [143, 143]
    assert said(path) == ["a: train: step 2 of epoch 2: stopped; go on with: packnet train --resume"] * 2
    assert finish(Alone(tasks, path, resume=True).start()) == 2
    assert "with processes 2, now it is 1" in said(path)[0]
    assert together(tasks, path, resume=True) == [0, 0]
    assert contents(path) == contents(tmp_path / "whole.pack")


def test_a_pretrained_network_relearns_in_two_processes(coloured: Coloured, tmp_path: Path) -> None:
    """Its loss is of features: the head has no part in it."""
    torch.manual_seed(5)
    torch.save(small_classifier(4).state_dict(), tmp_path / "w.pth")
    images = coloured("a")
    (first,) = recipe(images, weights=str(tmp_path / "w.pth"), reference=str(images))
    tasks = with_network_first([first], tmp_path / "two.pack")
    assert [task.retrain_epochs > 0 for task in tasks] == [True, True]
    assert together(tasks, tmp_path / "two.pack") == [0, 0], said(tmp_path / "two.pack")
    train(tasks, tmp_path / "one.pack")
    two, one = (Pack.open(tmp_path / f"{name}.pack") for name in ("two", "one"))
    assert all(check.passes for check in verify_pack(two))
    assert [la.owned for la in two.capacity()] == [la.owned for la in one.capacity()]
    heads = [pack.load_task("pretrained").tensors["head.weight"] for pack in (two, one)]
    np.testing.assert_array_equal(*heads, err_msg="relearning leaves the head alone")
    losses = [float(row[4]) for row in TrainFolder.beside(two.path).log().rows() if row[0] == "pretrained"]
    assert losses[-1] < losses[0]


def other_weights() -> None:
    """As on a machine that calculates otherwise: this process prunes other weights."""
    prune = PackedNetwork.prune

    def prune_others(self: PackedNetwork, rate: Any, *score: Any) -> None:
        with torch.no_grad():
            next(self.module.parameters()).copy_(next(self.module.parameters()).flip(0))
        prune(self, rate, *score)

    PackedNetwork.prune = prune_others  # type: ignore[method-assign]


def test_other_owners_on_another_process_stop_everything(coloured: Coloured, tmp_path: Path) -> None:
    tasks, path = recipe(coloured("a"), epochs=1, retrain_epochs=0), tmp_path / "p.pack"
    assert together(tasks, path, no_change, other_weights) == [1, 1]
    for message in said(path):
        assert re.fullmatch(
            r"owner maps: expected the same in every process, got (\w{12}) in process 0, (?!\1)\w{12} in process 1; "
            r"nothing was frozen; .*",
            message,
        )
    assert not path.exists()


def test_too_few_images_for_so_many_processes(coloured: Coloured, tmp_path: Path) -> None:
    path = tmp_path / "p.pack"
    assert together(recipe(coloured("a"), batch_size=3), path) == [2, 2]
    assert said(path)[0].startswith("2 processes: expected batches of 4 images or more, got --batch-size 3 and 18 im")


# -- one process ---------------------------------------------------------------------------------------------------


def test_alone_there_is_nothing_to_agree_on() -> None:
    assert distributed.world() == distributed.World(0, 1)
    assert distributed.world().writes
    assert distributed.summed([1.5, 2]) == [1.5, 2]
    assert distributed.gathered("x") == ["x"]
    module = nn.Linear(2, 2)
    assert distributed.parallel(module) is module
    distributed.require_same_owners({"w": torch.zeros(2, dtype=torch.uint8)})
    with distributed.joined(torch.device("cpu")) as world:
        assert world.size == 1


def test_others_that_cannot_be_reached_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(EnvironmentFault, match=r"WORLD_SIZE=2: the other processes cannot be reached .*torchrun"):
        distributed.joined(torch.device("cpu")).__enter__()


# -- as a user starts it -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_torchrun(coloured: Coloured, tmp_path: Path) -> None:
    """The command of the manual, on the real network: one process writes and talks."""
    coloured("a"), coloured("b", classes=3)
    text = "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in (NEW | QUICK | {"epochs": 1}).items())
    (tmp_path / "r.toml").write_text(text + '[[task]]\nname = "a"\ndata = "a"\n[[task]]\nname = "b"\ndata = "b"\n')
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["--redirects", "3", "--log-dir", "logs", "-m", "packnet_deploy", "train", "r.toml", "--pack", "p.pack"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    said = {path.parent.name + path.name: path.read_text() for path in (tmp_path / "logs").rglob("*.log")}
    assert done.returncode == 0, (done.stderr, said)
    assert "b: retrain  epoch 2/2" in said["0stdout.log"]
    assert said["1stdout.log"] == ""
    assert all(check.passes for check in verify_pack(Pack.open(tmp_path / "p.pack")))
