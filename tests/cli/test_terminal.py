"""What names, metadata, messages and file names say reaches the terminal as letters: no commands, no forged lines."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from packnet_deploy.cli.app import COMMANDS
from packnet_deploy.errors import printable, reason
from packnet_deploy.export.api import export_task
from packnet_deploy.pack import Pack

EVIL = "\x1b]0;owned\x07\x9b31m\u202ekcab\u2028\nforged: all is well\r\x1b[2J"
RUN = "import json, sys; from packnet_deploy.cli.app import run; [run(line) for line in json.load(open(sys.argv[1]))]"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain, größer, 日本", "plain, größer, 日本"),
        ("\x1b[31m", "\\u001b[31m"),
        ("a\nb\r", "a\\u000ab\\u000d"),
        ("\x9b\x85", "\\u009b\\u0085"),
        ("\u202e\u2066\u200b", "\\u202e\\u2066\\u200b"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\udb40\\udc41"),
        ("a\u00a0b", "a\u00a0b"),
    ],
)
def test_a_text_is_made_printable(text: str, printed: str) -> None:
    assert printable(text) == printed
    assert json.loads(f'"{printable(text)}"') == text


def test_a_librarys_error_is_one_bounded_line() -> None:
    assert reason(ValueError(f"bad\x1b[2J {'x' * 1000}\nsecond line")) == f"bad\\u001b[2J {'x' * 192}"[: 200 + 5]
    assert reason(ValueError()) == "ValueError"


def shown(commands: list[list[str]], folder: Path) -> str:
    """What a terminal gets while the commands run one after the other in one process."""
    lines = folder / "commands.json"
    lines.write_text(json.dumps(commands))
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", RUN, lines], stdin=side, stdout=side, stderr=side, cwd=folder)
    os.close(side)
    output = b""
    try:
        while chunk := os.read(main, 1 << 16):
            output += chunk
    except OSError:  # the terminal of a process that has ended
        pass
    finally:
        os.close(main)
    assert process.wait() == 0
    return output.decode()


def model(path: Path) -> None:
    """An ONNX file whose every name is hostile."""
    ends = [helper.make_tensor_value_info(f"{EVIL}{i}", TensorProto.FLOAT, [f"{EVIL}n", 2]) for i in range(2)]
    graph = helper.make_graph([helper.make_node("Neg", [f"{EVIL}0"], [f"{EVIL}1"], EVIL)], EVIL, ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(EVIL, 1)])
    helper.set_model_props(made, {EVIL: EVIL, "task": EVIL})
    onnx.save(made, path)


def evil_export(pack: Path, path: Path) -> None:
    """An export that runs, with hostile names for its task and its classes."""
    export_task(Pack.open(pack), "shapes", path)
    made = onnx.load(path)
    said = {entry.key: entry.value for entry in made.metadata_props}
    classes = [f"{EVIL}{number}" for number, _ in enumerate(json.loads(said["classes"]))]
    helper.set_model_props(made, {**said, "task": EVIL, "classes": json.dumps(classes)})
    onnx.save(made, path)


@pytest.mark.slow
def test_nothing_commands_the_terminal(golden: Path, tmp_path: Path) -> None:
    pack = Path(shutil.copytree(golden, tmp_path / f"{EVIL}.pack"))
    file = tmp_path / f"{EVIL}.onnx"
    model(file)
    delta = tmp_path / f"{EVIL}.safetensors"
    shutil.copy(pack / "deltas/0001-shapes.safetensors", delta)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((8).to_bytes(8, "little") + b'{"\x1b[2J"')
    (tmp_path / EVIL).mkdir()
    exported = tmp_path / "exported.onnx"
    evil_export(pack, exported)
    images = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("=HYPERLINK(1)", EVIL):
            (images / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(images / split / name / f"{EVIL}.png")
            (images / split / name / f"{EVIL}-bad.png").write_bytes(b"no image")
    (pack / "deltas" / f"{EVIL}").touch()
    here = ["--pack", str(pack)]
    commands = [
        *(["inspect", str(path), *json_] for path in (pack, file, delta, damaged) for json_ in ([], ["--json"])),
        ["inspect", f"missing{EVIL}"],
        ["verify", str(pack)],
        ["export", *here, "--task", EVIL],
        ["export", *here, "--task", "shapes", "-o", str(tmp_path / EVIL / EVIL / "x.onnx")],
        ["eval", *here, "--task", "shapes", "--data", str(tmp_path / EVIL)],
        ["eval", *here, "--task", "shapes", "--data", str(images), "--skip-bad-images"],
        ["eval", "--onnx", str(exported), "--task", EVIL, "--data", str(images), "--skip-bad-images"],
        *(
            ["predict", *source, str(images), *form]
            for source in (["shapes", *here], ["--all", "--onnx", str(exported)])
            for form in ([], ["--json"], ["--csv"])
        ),
        ["bench", str(exported), "--seconds", "0.01"],
        ["delta", "extract", "--task", EVIL, *here, "-o", str(tmp_path / EVIL / "x")],
        ["demo", EVIL],
        ["doctor", EVIL],
        ["gpu-report", EVIL, EVIL],
        ["delta", "apply", str(delta), *here],
        ["bench", str(file)],
        ["report", str(tmp_path / EVIL)],
        ["train", f"{EVIL}.toml"],
        ["experiment", f"{EVIL}.toml"],
        ["build", *here, "--backend", EVIL],
        ["predict", *here, "--task", "shapes", str(tmp_path / f"{EVIL}.png")],
        [EVIL],
    ]
    output = shown(commands, tmp_path)
    assert "owned" in output
    assert "forged" in output
    for command in ("\x1b]", "\x07", "\x9b", "\u202e", "\u2028", "\x1b[2J"):
        assert command not in output
    assert not [line for line in output.splitlines() if line.startswith("forged")]
    assert {line[0] for line in commands} >= set(COMMANDS)


def test_sigterm_ends_in_order(golden: Path, tmp_path: Path) -> None:
    """Exit code 143, one line, nothing left behind."""
    slow = (
        "import time, sys; from packnet_deploy.export import write; from packnet_deploy.cli import main;"
        "real = write.write_buffers;"
        "from packnet_deploy.export import api;"
        "api.write_buffers = lambda *a: (real(*a), print('written', flush=True), time.sleep(60));"
        "main(sys.argv[1:])"
    )
    target = tmp_path / "out" / "shapes.onnx"
    target.parent.mkdir()
    command = [sys.executable, "-c", slow, "export", "--pack", golden, "--task", "shapes", "-o", target]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said == "packnet: terminated; nothing half-written was left behind\n"
    assert list(target.parent.iterdir()) == []
