"""Whatever a command does with a pack, it hashes each delta once and decodes each delta once, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_folders import image_folder
from stand_in import GPU, StandInDevice, StandInTensorRT
from stand_in_plans import write_plan

from packnet_deploy.pack import Pack, chain
from packnet_deploy.trt import engine as engine_module

Packnet = Callable[..., Any]
TASKS = ("shapes", "birds", "flowers")


class Reads:
    """How often each delta was hashed, and how often each of its parameters was decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashes: Counter[str] = Counter()
        self.decodes: Counter[tuple[str, str]] = Counter()
        hashed, decoded = chain.file_sha256, chain.decode_param

        def file_sha256(path: Path, *more: Any) -> str:
            self.hashes[path.name] += 1
            return hashed(path, *more)

        def decode_param(param: Any, deltas: Any, *outputs: Any) -> None:
            self.decodes.update((file.path.name, param.name) for file in deltas)
            decoded(param, deltas, *outputs)

        monkeypatch.setattr(chain, "file_sha256", file_sha256)
        monkeypatch.setattr(chain, "decode_param", decode_param)


@pytest.fixture
def reads(here: Path, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Counters over ``golden.pack`` in the current folder."""
    return Reads(monkeypatch)


def expect_once(reads: Reads, pack: Pack, *, decoded: bool = True, tasks: int = len(TASKS)) -> None:
    files = [pack.file(entry).name for entry in pack.tasks[:tasks]]
    assert reads.hashes == dict.fromkeys(files, 1)
    assert reads.decodes == {(file, param.name): 1 for file in files for param in pack.packable if decoded}


def test_inspect_decodes_nothing(packnet: Packnet, here: Path, reads: Reads) -> None:
    assert packnet("inspect", "golden.pack").code == 0
    expect_once(reads, Pack.open(here / "golden.pack"), decoded=False)


@pytest.mark.parametrize(
    "command",
    [
        ("verify",),
        ("verify", "--against", "onnxrt"),
        ("verify", "--against", "onnxrt", "--layout", "selector"),
        ("verify", "--against", "onnxrt", "--layout", "shared"),
        ("export", "--all-tasks"),
        ("export", "--all-tasks", "--image-size", "16"),
        ("export", "--all-tasks", "--layout", "sparse"),
        ("export", "--all-tasks", "--format", "triton"),
        ("export", "--all-tasks", "--layout", "shared"),
        ("export", "--layout", "selector"),
        ("export", "--layout", "selector", "--image-size", "16"),
        ("build", "--dry-run"),
    ],
)
def test_every_task_in_one_command(packnet: Packnet, here: Path, reads: Reads, command: tuple[str, ...]) -> None:
    result = packnet(*command)
    assert result.code == 0, result.err
    expect_once(reads, Pack.open(here / "golden.pack"))


@pytest.mark.parametrize("more", [(), ("--image-size", "16"), ("--format", "triton")])
def test_one_task_reads_no_later_delta(packnet: Packnet, here: Path, reads: Reads, more: tuple[str, ...]) -> None:
    result = packnet("export", "--task", "birds", *more)
    assert result.code == 0, result.err
    expect_once(reads, Pack.open(here / "golden.pack"), tasks=2)


def test_eval(packnet: Packnet, here: Path, reads: Reads) -> None:
    source = image_folder(here / "source", classes=1, images=2) / "test/class0"
    for name in Pack.open(here / "golden.pack").header("birds").classes:
        (here / "birds").mkdir(exist_ok=True)
        (here / "birds" / name).symlink_to(source)
    reads.hashes.clear()
    result = packnet("eval", "--task", "birds", "--data", "birds")
    assert result.code == 0, result.err
    expect_once(reads, Pack.open(here / "golden.pack"), tasks=2)


@pytest.mark.parametrize("switch", ["refit", "bind", "selector"])
def test_an_engine_that_is_held_against_the_pack(
    packnet: Packnet, here: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    pack, device = Pack.open(here / "golden.pack"), StandInDevice()
    write_plan(here / "all.plan", pack, switch)
    trt = StandInTensorRT(device, switch)
    monkeypatch.setattr(engine_module, "load_flavour", lambda name: trt.flavour)
    monkeypatch.setattr(engine_module, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engine_module, "Device", lambda gpu, index=0: device)
    reads = Reads(monkeypatch)
    result = packnet("verify", "--plan", "all.plan")
    assert result.code == 0, result.err
    expect_once(reads, pack, decoded=switch != "selector")
