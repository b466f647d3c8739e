"""More than a hundred wrong uses: the exit code of each, and the four facts of its one line.

The facts: which file, option or task; what was expected; what was found; what to do next. Where what was expected is a
list to choose from, it is the next step as well. Nothing is trained, and nothing heavy is loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from packnet_deploy.cli.app import COMMANDS
from packnet_deploy.training.options import CHOICES

Packnet = Callable[..., Any]
USAGE, MACHINE, FILE = 2, 3, 4


class Use(NamedTuple):
    """A command line, and what its error has to say: the subject, expected, found, next."""

    line: str
    code: int
    facts: tuple[str, str, str, str]


NEEDS_PACK = (
    "verify",
    "export --all-tasks",
    "export --layout selector",
    "eval --task birds --data photos",
    "predict birds photo.png",
    "predict --all photo.png",
    "delta extract --task birds",
    "delta apply birds.delta",
    "build --dry-run",
    "bench",
)
NAMES_TASK = (
    "export --task {}",
    "eval --data photos --task {}",
    "predict {} photo.png",
    "delta extract --task {}",
    "bench --task {}",
    "verify --against onnxrt --task {}",
)
TRAIN = "train --task new --data photos"
NUMBERS = {  # of train: a value out of range, and the range
    "prune-rate": ("2", "0..1"),
    "prune-steps": ("0", "1 or more"),
    "max-drop": ("2", "0..1"),
    "tasks-to-come": ("0", "1..254"),
    "epochs": ("-1", "0 or more"),
    "freeze-epochs": ("-1", "0 or more"),
    "retrain-epochs": ("-1", "0 or more"),
    "retrain-lr-factor": ("-1", "0 or more"),
    "warmup": ("-1", "0 or more"),
    "clip-grad": ("-1", "0 or more"),
    "label-smoothing": ("2", "0..1"),
    "val-fraction": ("1", "0..0.9"),
    "batch-size": ("0", "1 or more"),
    "momentum": ("2", "0..1"),
    "weight-decay": ("-1", "0 or more"),
    "image-size": ("7", "8..16384"),
    "workers": ("-1", "0 or more"),
    "seed": ("-1", "0.."),
    "lr": ("0", "above 0"),
    "retrain-lr": ("nan", "a finite number"),
}


def uses() -> Iterator[Use]:
    for line in NEEDS_PACK:
        yield Use(f"{line} --pack gone.pack", MACHINE, ("gone.pack", "expected a pack", "got nothing", "give its path"))
        yield Use(f"{line} --pack empty", FILE, ("empty", "not a pack", "no pack.json", ""))
    for line in NAMES_TASK:
        yield Use(line.format("cars"), USAGE, ("golden.pack", "its tasks: shapes, birds, flowers", "'cars'", ""))
    for name in COMMANDS:
        yield Use(f"{name} --nonsense", USAGE, ("--nonsense", "No such option", "", f"see: packnet {name} --help"))
    for option, known in CHOICES.items():
        flag = f"--{option.replace('_', '-')}"
        yield Use(f"{TRAIN} {flag} odd", USAGE, (flag, f"expected one of {', '.join(known)}", "got 'odd'", ""))
    for option, (value, expected) in NUMBERS.items():
        yield Use(f"{TRAIN} --{option} {value}", USAGE, (f"--{option}", f"expected {expected}", "got ", ""))
    yield from (Use(line, MACHINE, ("gone", "", "", "")) for line in GONE)
    yield from OTHERS


GONE = (  # a path that does not exist: the same exit code wherever it was named
    "inspect gone",
    "verify --pack gone",
    "verify --plan gone",
    "verify --against onnxrt --data gone",
    "export --task birds -o gone/birds.onnx",
    "export --all-tasks --layout shared -o gone/birds.shared",
    "export --all-tasks --format triton -o gone/models",
    "export --format triton --plan gone.plan",
    "build --dry-run --pack gone",
    "predict birds gone",
    "predict birds photo.png --onnx gone",
    "predict birds photo.png --plan gone.plan",
    "eval --task birds --data gone",
    "eval --task birds --data imagenet:gone",
    "eval --task birds --data photos --plan gone.plan",
    "bench gone.plan",
    "bench gone.onnx",
    "bench birds.onnx --csv gone/b.csv",
    "delta extract --task birds -o gone/birds.delta",
    "delta apply gone",
    "train gone.toml",
    "train --task new --data gone",
    "train --task new --data gone --pack new.pack --arch quickstart --weights none",
    "train --task new --data photos --pack new.pack --arch squeezenet1_1 --weights gone.pth",
    "train --task new --data photos --pack gone/new.pack --arch quickstart --weights none",
    "train --resume --pack gone.pack",
    "experiment gone.toml",
    "report gone",
)


OTHERS = (
    Use("frobnicate", USAGE, ("'frobnicate'", "there are: train", "no command", "see: packnet --help")),
    Use("inspect gone", MACHINE, ("gone", "expected a pack, a delta", "got nothing", "")),
    Use("inspect text.txt", FILE, ("text.txt", "neither a pack, nor an ONNX file", "", "")),
    Use("inspect photo.png", FILE, ("photo.png", "neither a pack, nor an ONNX file", "", "")),
    Use("delta apply gone.delta", MACHINE, ("gone.delta", "expected a delta", "got nothing", "packnet delta extract")),
    Use("delta apply birds.delta --sha256 abcd", USAGE, ("--sha256", "expected 64 hex", "got 'abcd'", "delta extract")),
    Use(
        f"delta apply birds.delta --sha256 {'0' * 64}", FILE, ("birds.delta", "expected 0000", "got ", "fetch it again")
    ),
    Use("delta apply text.txt", FILE, ("text.txt", "", "", "")),
    Use("delta extract", USAGE, ("--task", "Missing option", "", "see: packnet delta extract --help")),
    Use("bench gone.onnx", MACHINE, ("gone.onnx", "expected an ONNX file", "got no file", "packnet export")),
    Use("bench empty", USAGE, ("empty", "expected ONNX files", "got none", "packnet export")),
    Use("bench birds.onnx --csv far/b.csv", MACHINE, ("far", "expected a folder", "got none", "make it first")),
    Use(
        "bench birds.onnx --csv empty", MACHINE, ("empty", "expected the name of a file", "got a folder", "say empty/")
    ),
    Use("bench birds.onnx --plot far/b.svg", MACHINE, ("--plot far/b.svg", "", "no such folder", "make it first")),
    Use("bench --seconds 0", USAGE, ("seconds", "expected", "got", "")),
    Use("export", USAGE, ("golden.pack", "expected either --task NAME or --all-tasks", "", "shapes, birds, flowers")),
    Use(
        "export --task birds --all-tasks", USAGE, ("golden.pack", "expected either --task NAME or --all-tasks", "", "")
    ),
    Use("export --task birds -o far/b.onnx", MACHINE, ("far", "no such folder", "", "make it first")),
    Use(
        "export --task birds -o empty", USAGE, ("empty", "expected a file name", "got a folder", "say empty/birds.onnx")
    ),
    Use("export --task birds -o text.txt", USAGE, ("text.txt", "packnet export did not write", "is there", "--force")),
    Use("export --task birds --layout odd", USAGE, ("layout", "expected one of dense, sparse", "got 'odd'", "")),
    Use("export --task birds --precision odd", USAGE, ("precision", "expected one of fp32", "got 'odd'", "")),
    Use("export --task birds --batch 0", USAGE, ("batch", "expected a number from 1 up", "got '0'", "")),
    Use("export --task birds --opset 3", USAGE, ("opset", "expected 17 to", "got 3", "")),
    Use("export --task birds --image-size 0", USAGE, ("image size", "expected 1 or more", "got 0", "")),
    Use("export --task birds --image-size 1", USAGE, ("image size 1x1", "a window of", "over", "choose a larger one")),
    Use("export --task birds --atol -1", USAGE, ("atol", "expected 0 or more", "got -1", "")),
    Use("export --task birds --layout selector", USAGE, ("--task", "holds every task", "", "leave --task out")),
    Use("export --task birds --format odd", USAGE, ("--format", "onnx", "odd", "see: packnet export --help")),
    Use("export --plan a.plan", USAGE, ("--plan", "only --format triton", "got --format onnx", "")),
    Use("verify --against odd", USAGE, ("--against", "torch", "odd", "see: packnet verify --help")),
    Use("verify --layout shared", USAGE, ("--layout", "only a comparison takes it", "", "say --against")),
    Use("eval --task birds", USAGE, ("--data", "Missing option", "", "see: packnet eval --help")),
    Use("eval --data photos", USAGE, ("--task", "Missing option", "", "see: packnet eval --help")),
    Use("eval --task birds --data gone", MACHINE, ("gone", "expected a folder of images", "does not exist", "")),
    Use("eval --task birds --data photos --split odd", USAGE, ("split", "expected one of train, val", "got 'odd'", "")),
    Use(
        "eval --task birds --data photos", MACHINE, ("photos", "expected only the task's 2", "got also 'one'", "rename")
    ),
    Use("eval --task birds --data odd:x", USAGE, ("'odd:x'", "imagefolder:, imagenet:", "got odd:", "")),
    Use("eval --task birds --data builtin:odd", USAGE, ("built-in", "expected one of 'digits'", "got 'odd'", "")),
    Use("eval --task birds --data photos --device odd", USAGE, ("device", "expected one of auto", "got 'odd'", "")),
    Use("eval --task birds --data x --confusion c.txt", USAGE, ("c.txt", "ends in .csv or .svg", "got '.txt'", "")),
    Use("eval --task birds --data x --predictions far/p", MACHINE, ("far", "expected a folder", "got none", "make it")),
    Use("eval --task birds --data x --onnx gone.onnx", MACHINE, ("gone.onnx", "expected", "got nothing", "")),
    Use("predict", USAGE, ("TASK IMAGE...", "expected", "", "see: packnet predict --help")),
    Use("predict birds gone.png", MACHINE, ("gone.png", "expected an image or a folder", "got nothing", "")),
    Use("predict birds empty", MACHINE, ("empty", "expected images", "got an empty folder", "")),
    Use("predict birds text.txt", MACHINE, ("text.txt", "expected a readable image", "no image format", "")),
    Use("predict birds photo.png --top 0", USAGE, ("--top", "x>=1", "0", "see: packnet predict --help")),
    Use("predict birds photo.png --csv --json", USAGE, ("--json, --csv", "expected one", "got both", "see: packnet")),
    Use("predict birds photo.png --onnx a --plan b", USAGE, ("--onnx", "", "", "leave out --pack and --plan")),
    Use("train --data photos", USAGE, ("--data", "which task", "", "Give --task NAME")),
    Use("train recipe.toml --task a", USAGE, ("--task", "with a recipe", "", "leave them out")),
    Use("train gone.toml", MACHINE, ("gone.toml", "", "", "")),
    Use("train --resume", USAGE, ("--resume", "expected one *.train/", "got none", "")),
    Use("train --task a/b --data photos", USAGE, ("'a/b'", "expected 1 to 64 letters", "", "")),
    Use("build --switch odd", USAGE, ("switch", "expected one of", "got 'odd'", "")),
    Use("report gone", MACHINE, ("gone", "", "holds no experiments", "packnet experiment")),
    Use("experiment odd", USAGE, ("odd", "expected a recipe's file or the name of one of", "", "table2")),
    Use("demo --images taken", USAGE, ("taken/digits", "expected nothing there yet", "got", "choose another --images")),
)


@pytest.fixture
def somewhere(here: Path, packnet: Packnet) -> Path:
    """golden.pack, an export and a delta of it, an image, a folder of images, a text, an empty folder."""
    assert packnet("export", "--task", "birds").code == 0
    assert packnet("delta", "extract", "--task", "birds", "-o", "birds.delta").code == 0
    for folder in ("empty", "photos/one", "taken/digits"):
        (here / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(here / "photo.png")
    shutil.copy(here / "photo.png", here / "photos/one/photo.png")
    (here / "text.txt").write_text("Only words.\n")
    return here


def test_every_wrong_use_says_in_one_line_what_is_wrong_and_what_to_do(packnet: Packnet, somewhere: Path) -> None:
    before = sorted(path.name for path in somewhere.rglob("*"))
    wrong = []
    all_uses = list(uses())
    assert len(all_uses) >= 100
    for use in all_uses:
        result = packnet(*use.line.split())
        line = result.err.strip()
        missing = [fact for fact in use.facts if fact not in line]
        if result.code != use.code or missing or result.err.count("\n") != 1 or not line.startswith("packnet: "):
            wrong.append(f"{use.line}\n    exit code {result.code}, expected {use.code}; lacks {missing}: {result.err}")
    assert wrong == [], "\n" + "\n".join(wrong)
    assert sorted(path.name for path in somewhere.rglob("*")) == before, "and leaves nothing behind"
