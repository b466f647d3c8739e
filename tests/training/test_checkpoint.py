"""Checkpoints: what comes back, what is refused, random states, and stopping on a signal."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.training.checkpoint import FORMAT, Checkpoint, StopRequest, random_state, read, restore_random_state

IDENTITY = {"task": "birds", "lr": 0.1, "milestones": [1, 2], "start": None, "processes": 1}


def content() -> dict[str, Any]:
    values = torch.arange(100, dtype=torch.float32)
    state = {0: {"step": torch.tensor(3.0), "exp_avg": values / 3}}
    return {"stage": 2, "notes": {"trained": {"val": [0.25, 0.0]}}, "log": [["birds", "train", 1]], "fit": state}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    made = Checkpoint(tmp_path / "checkpoint.pt", IDENTITY)
    made.save(content())
    return made


def same(one: Any, other: Any) -> bool:
    """Whether nested dictionaries, lists, values and tensors are equal, types included."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


def test_what_was_saved_comes_back(checkpoint: Checkpoint) -> None:
    assert same(checkpoint.load(), content())
    checkpoint.save({"stage": 3})
    assert checkpoint.load() == {"stage": 3}
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.pt"]
    checkpoint.remove()
    checkpoint.remove()
    assert not checkpoint.path.exists()


def test_saving_clears_away_what_a_killed_process_left(checkpoint: Checkpoint) -> None:
    (checkpoint.path.parent / ".tmp-checkpoint.pt-99").write_bytes(b"half")
    checkpoint.save(content())
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on a file's size here")
def test_a_full_disk_is_what_it_is_and_leaves_the_one_before(checkpoint: Checkpoint) -> None:
    """PyTorch says of it only that its writer failed. A limit on a file's size fails as a full disk does."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save({"large": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(checkpoint.load(), content())
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("part", ["identity", "content"])
@pytest.mark.parametrize("value", [None, [], [("task", "birds")], {1: 2}, "task", torch.ones(2)])
def test_a_checkpoint_of_another_form_is_refused(checkpoint: Checkpoint, part: str, value: object) -> None:
    saved = {"format": FORMAT, "identity": IDENTITY, "content": {}, part: value}
    if value is None:
        del saved[part]
    torch.save(saved, checkpoint.path)
    with pytest.raises(ArtefactError, match=rf"checkpoint\.pt: {part}: expected named values, got \w+; delete it"):
        checkpoint.load()


def test_a_failed_save_leaves_the_one_before(checkpoint: Checkpoint) -> None:
    with pytest.raises(AttributeError):
        checkpoint.save({"stage": 9, "not to be pickled": lambda: None})
    assert same(checkpoint.load(), content())
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"lr": 0.2}, r"with lr 0\.1, now it is 0\.2"),
        ({"milestones": []}, r"with milestones \[1, 2\], now it is \[\]"),
        ({"start": "task"}, "with start None, now it is 'task'"),
        ({"processes": 2}, "with processes 1, now it is 2"),
        ({"amp": "bf16"}, "with amp None, now it is 'bf16'"),
    ],
)
def test_another_trainings_checkpoint_is_refused(
    checkpoint: Checkpoint, changed: dict[str, Any], difference: str
) -> None:
    with pytest.raises(UsageError, match=rf"checkpoint\.pt: .* {difference}; resume with the same options, or delete"):
        Checkpoint(checkpoint.path, IDENTITY | changed).load()


def refused(path: Path) -> str:
    with pytest.raises(ArtefactError, match=r"checkpoint\.pt: .*delete it to start again$") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_truncation_is_refused(checkpoint: Checkpoint) -> None:
    whole = checkpoint.path.read_bytes()
    for size in range(0, len(whole), 61):
        checkpoint.path.write_bytes(whole[:size])
        refused(checkpoint.path)


def test_a_flipped_bit_changes_nothing_that_is_read_or_is_refused(checkpoint: Checkpoint) -> None:
    """PyTorch alone reads on over a flipped bit in a tensor."""
    whole, rng, told = checkpoint.path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        checkpoint.path.write_bytes(damaged)
        try:
            assert same(checkpoint.load(), content())  # the bit was in the padding between records
        except ArtefactError:
            told += 1
    assert told > 100


@pytest.mark.parametrize("rubbish", [b"", b"PK\x03\x04", b"\x80\x02}.", b"\x80\x02c", b"hello", bytes(3000)])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(rubbish)
    refused(tmp_path / "checkpoint.pt")


def test_another_file_of_pytorchs_is_refused(tmp_path: Path) -> None:
    for other in ({"weight": torch.zeros(2)}, torch.zeros(2), {"format": "packnet-checkpoint 0"}):
        torch.save(other, tmp_path / "checkpoint.pt")
        assert "expected a checkpoint of the form 'packnet-checkpoint 1'" in refused(tmp_path / "checkpoint.pt")


class Runs:
    """Unpickled, it would call a function."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": Runs()}, tmp_path / "checkpoint.pt")
    refused(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "pwned").exists()


def test_random_numbers_go_on_where_they_were() -> None:
    torch.manual_seed(3)
    torch.rand(5)
    state = random_state()
    expected = torch.rand(4)
    torch.manual_seed(8)
    restore_random_state(state)
    assert torch.equal(torch.rand(4), expected)


# -- signals -------------------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_second_stops(number: signal.Signals) -> None:
    before, request = signal.getsignal(number), StopRequest()
    with request.listening():
        assert not request.wanted
        os.kill(os.getpid(), number)
        assert request.wanted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with StopRequest().listening() as request:
            seen.append((signal.getsignal(signal.SIGTERM) is before, request.wanted))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [(True, False)]
