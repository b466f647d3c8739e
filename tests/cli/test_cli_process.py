"""The command as its own process: interrupts, closed pipes, terminals of few letters, packages that are missing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from image_folders import image_folder

PACKNET = (sys.executable, "-m", "packnet_deploy")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")


def finished(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_training_leaves_a_checkpoint_and_no_pack(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    image_folder(tmp_path / "a")
    network = ["--arch", "quickstart", "--weights", "none", "--image-size", "16"]
    process = subprocess.Popen(
        [*PACKNET, "train", "--task", "one", "--data", "a", *network, "--epochs", "1000000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "epoch 1/" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    line = errors.strip()  # after the line of the ^C
    assert re.fullmatch(
        r"packnet: one: (re)?train: step \d of epoch \d+: stopped; go on with: packnet train --resume", line
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "packnet.train"]
    assert sorted(path.name for path in (tmp_path / "packnet.train").iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "tasks.json",
    ]


@posix
def test_a_reader_that_goes_away_is_no_error(golden_copy: Path) -> None:
    for flag in ("", "--json"):
        arguments = [*PACKNET, "inspect", str(golden_copy), *filter(None, [flag])]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "", "no traceback, as after `| head`"
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_exit_3(golden_copy: Path) -> None:
    for flag in ((), ("--json",)):
        with open("/dev/full", "w") as full:
            arguments = [*PACKNET, "inspect", str(golden_copy), *flag]
            done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        assert "No space left" in done.stderr


def test_class_names_beyond_the_terminals_letters(golden_copy: Path) -> None:
    folder = golden_copy.parent
    assert finished([*PACKNET, "export", "--task", "birds"], folder).returncode == 0
    shown = finished([*PACKNET, "inspect", "birds.onnx"], folder, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr
    assert "M?nchsgrasm?cke" in shown.stdout


def test_every_process_exports_the_same_bytes(golden_copy: Path) -> None:
    written = []
    for seed in ("1", "2"):
        done = finished([*PACKNET, "export", "--task", "flowers"], golden_copy.parent, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        written.append((golden_copy.parent / "flowers.onnx").read_bytes())
    assert written[0] == written[1]


def test_images_without_pillow_name_the_extra(golden_copy: Path) -> None:
    root = image_folder(golden_copy.parent / "birds", classes=2)
    for old, new in (("class0", "Rotkehlchen"), ("class1", "Mönchsgrasmücke")):
        (root / "test" / old).rename(root / "test" / new)
    code = "import sys\nsys.modules['PIL'] = None\nfrom packnet_deploy.cli.app import main\nmain()"
    done = finished([sys.executable, "-c", code, "eval", "--task", "birds", "--data", "birds/test"], golden_copy.parent)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install 'packnet-deploy[images]'" in done.stderr
